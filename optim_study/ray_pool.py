"""Run workers as tasks on the nodes of a Ray cluster, each with one GPU or one CPU.

Ray places the workers and detects lost ones; the storage and its locks hold the state of the work, as with any workers. So a node may
die: its trials are free at once, other workers take them over, and another worker starts as soon as there is room.

Every node needs the same storage (PostgreSQL, or OUT on a file system with locks across nodes), the same data, and this toolkit. An
actor beside the process that started the workers collects their messages.
"""

import logging
import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from optim_study.pool import STOPPING, Ended, Job, Message, serve
from optim_study.presets import WorkSettings
from rhn.errors import InvalidInputError, OutputError, RhnError

_logger = logging.getLogger(__name__)
INTERRUPTED = 130
REACH_SECONDS = 10
LISTEN_SECONDS = 0.2  # interval of emptying the inbox: speeds are measured at the arrival of events


@contextmanager
def ray_tasks(config: WorkSettings) -> Iterator["RayTasks"]:
    """Connect to a Ray cluster and return the engine for these settings.

    Raises InvalidInputError if Ray is not installed, nothing answers at the address, or the cluster has no such device, OutputError if
    the cluster fails later.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InvalidInputError("--engine ray needs Ray: install it with `pip install 'rhn-toolkit[ray]'`") from None
    _check_reachable(config.address or os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(config.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        place = f"at {config.address}" if config.address else "here"
        raise InvalidInputError(
            f"no Ray cluster can be used {place}: {error}; one with a token needs RAY_AUTH_MODE=token and the head's "
            "~/.ray/auth_token here"
        ) from error
    try:
        yield RayTasks(*places(config))
    except ray.exceptions.RayError as error:
        raise OutputError(
            f"the Ray cluster failed ({type(error).__name__}): mend that and run the same command again, everything saved "
            "so far is kept"
        ) from error
    finally:
        ray.shutdown()


def places(config: WorkSettings) -> tuple[list[str], float]:
    """The device of each worker, and the bytes of memory for one; infinite on a GPU, whose memory is not known here."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if config.device == "cuda" and not gpus:
        raise InvalidInputError("--device cuda: no node of the Ray cluster has a GPU; use --device cpu")
    if gpus and config.device != "cpu":
        return ["cuda"] * (gpus if config.jobs == "auto" else config.jobs), math.inf
    cpus = sum(int(node.get("CPU", 0)) for node in nodes)
    if not cpus:
        raise InvalidInputError(
            "no node of the Ray cluster has a CPU for workers: start one with `ray start --num-cpus`"
        )
    jobs = cpus if config.jobs == "auto" else config.jobs
    free = min(node.get("memory", math.inf) / min(jobs, node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1)
    return ["cpu"] * jobs, free


class RayTasks:
    """Tasks of a Ray cluster; implements `optim_study.pool.Engine`."""

    def __init__(self, places: Sequence[str], free: float):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.places, self.free = places, free
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._inbox = ray.remote(_Inbox).options(num_cpus=0, scheduling_strategy=here).remote()
        resources = {"num_cpus": 1} if places[0] == "cpu" else {"num_cpus": 1, "num_gpus": 1}
        self._worker = ray.remote(_worker_main).options(max_retries=0, **resources)  # `pool` starts a lost one again
        self._numbers: dict[ray.ObjectRef, int] = {}  # task -> number of the worker
        self._complete = False  # True when a worker has found no work left

    def start(self, job: Job, number: int) -> None:
        self._numbers[self._worker.remote(job, number, self._inbox)] = number

    def wait(self, seconds: float) -> Iterator[tuple[int, Message | Ended]]:
        import ray

        ended, _ = ray.wait(list(self._numbers), timeout=min(seconds, LISTEN_SECONDS))
        yield from ray.get(self._inbox.take.remote())  # a task ends after its messages have arrived
        for task in ended:
            yield self._numbers.pop(task), self._ended(task)
        if self._complete:  # the others need not wait for room
            yield from [(number, Ended()) for number in self._numbers.values()]
            self._numbers.clear()

    def stop(self) -> None:
        import ray

        if self._numbers:
            _logger.warning(STOPPING)
        try:
            for task in self._numbers:
                ray.cancel(task)  # the main thread of a worker gets an interrupt; one that waits for room is dropped
            for task in self._numbers:
                ray.wait([task])
        except KeyboardInterrupt:
            for task in self._numbers:
                ray.cancel(task, force=True)
            raise

    def _ended(self, task) -> Ended:
        import ray

        try:
            code = ray.get(task)
        except ray.exceptions.TaskCancelledError:
            return Ended()
        except ray.exceptions.RayTaskError as error:  # it could not start
            raise RhnError(f"a worker failed on its node: {str(error).strip().splitlines()[-1]}") from error
        except ray.exceptions.RayError as error:
            return Ended(type(error).__name__)
        self._complete |= code == 0
        return Ended()


class _Inbox:
    """An actor that collects the messages of workers."""

    def __init__(self):
        self._messages = []

    def put(self, number: int, message: Message) -> None:
        self._messages.append((number, message))

    def take(self) -> list[tuple[int, Message]]:
        messages, self._messages = self._messages, []
        return messages


def _worker_main(job: Job, number: int, inbox) -> int:
    """The task of a worker; returns its exit code after its messages have arrived."""
    import ray

    last = []

    def send(message: Message) -> None:
        last[:] = [inbox.put.remote(number, message)]  # messages of one caller arrive in order

    try:
        code = serve(job, number, send)
    except KeyboardInterrupt:
        code = INTERRUPTED
    ray.get(last)
    return code


def _check_reachable(address: str) -> None:
    """Raise InvalidInputError if nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # a keyword of Ray, such as `local`
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InvalidInputError(
            f"no Ray cluster answers at {address}: {error}; give the address that `ray start --head` prints"
        ) from error
