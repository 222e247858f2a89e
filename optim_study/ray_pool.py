"""Workers as tasks on the nodes of a Ray cluster: one GPU each, or one CPU.

Ray says where they run and that one was lost; what is left to do is known from the storage and its locks alone, as with any workers.
So a node may die: its trials are free at once, whoever works takes them over, and another worker comes as soon as there is room.

Every node has to see the same storage (PostgreSQL, or OUT on a file system whose locks hold across nodes) and the same data, and to
have this toolkit installed. What workers tell comes through an actor beside the process that started them.
"""

import logging
import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from optim_study.presets import WorkSettings
from optim_study.worker_pool import STOPPING, Ended, Job, Told, serve
from rhn.errors import InvalidInputError, OutputError, RhnError

_logger = logging.getLogger(__name__)
INTERRUPTED = 130
REACH_SECONDS = 10
LISTEN_SECONDS = 0.2  # how often the inbox is emptied: the speeds shown are measured when events come


@contextmanager
def ray_tasks(config: WorkSettings) -> Iterator["RayTasks"]:
    """The engine for these settings, connected to its cluster as long as it is used.

    Raises InvalidInputError where Ray is not installed, nothing answers at the address, or the cluster has no such device, OutputError
    where it fails later.
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
            f"no Ray cluster can be used {place}: {error}; one that asks for a token wants RAY_AUTH_MODE=token and the head's "
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
    """The device of each worker, and the bytes of memory that one may take (those of its GPU are not known: what does not fit is halved
    then)."""
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
    """Implements `optim_study.worker_pool.Engine`."""

    def __init__(self, places: Sequence[str], free: float):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.places, self.free = places, free
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._inbox = ray.remote(_Inbox).options(num_cpus=0, scheduling_strategy=here).remote()
        resources = {"num_cpus": 1} if places[0] == "cpu" else {"num_cpus": 1, "num_gpus": 1}
        self._worker = ray.remote(_worker_main).options(max_retries=0, **resources)  # a lost one is started again by us
        self._numbers: dict[ray.ObjectRef, int] = {}  # task -> number of its worker
        self._complete = False  # whether a worker has found nothing left to do

    def start(self, job: Job, number: int) -> None:
        self._numbers[self._worker.remote(job, number, self._inbox)] = number

    def wait(self, seconds: float) -> Iterator[tuple[int, Told | Ended]]:
        import ray

        ended, _ = ray.wait(list(self._numbers), timeout=min(seconds, LISTEN_SECONDS))
        yield from ray.get(self._inbox.take.remote())  # a task ends when all that it told is there
        for task in ended:
            yield self._numbers.pop(task), self._ended(task)
        if self._complete:  # nobody has to wait for room any more
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
        except ray.exceptions.RayTaskError as error:  # it could not even begin
            raise RhnError(f"a worker failed on its node: {str(error).strip().splitlines()[-1]}") from error
        except ray.exceptions.RayError as error:
            return Ended(type(error).__name__)
        self._complete |= code == 0
        return Ended()


class _Inbox:
    """The actor that takes what workers tell until it is asked for."""

    def __init__(self):
        self._told = []

    def put(self, number: int, told: Told) -> None:
        self._told.append((number, told))

    def take(self) -> list[tuple[int, Told]]:
        told, self._told = self._told, []
        return told


def _worker_main(job: Job, number: int, inbox) -> int:
    """The task: how it ended, as exit code. Returns when all that it told has arrived."""
    import ray

    told = []

    def tell(message: Told) -> None:
        told[:] = [inbox.put.remote(number, message)]  # a caller's messages arrive in their order

    try:
        code = serve(job, number, tell)
    except KeyboardInterrupt:
        code = INTERRUPTED
    ray.get(told)
    return code


def _check_reachable(address: str) -> None:
    """Raise InvalidInputError where nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return  # a word of Ray's own, as `local`
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InvalidInputError(
            f"no Ray cluster answers at {address}: {error}; give the address that `ray start --head` prints"
        ) from error
