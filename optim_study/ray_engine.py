"""Run jobs as tasks on the nodes of a Ray cluster. Each task has one GPU or one CPU.

Every node needs the folder of the run, the same data and this toolkit. If a node dies, its batches
go to other nodes; only the node of the driver must not die.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager

from optim_study.presets import RunConfig
from optim_study.worker import Job, attempt
from rhn.errors import InvalidInputError, OutputError

REACH_SECONDS = 10


@contextmanager
def ray_tasks(config: RunConfig) -> Iterator["RayTasks"]:
    """Connect to a Ray cluster and return the engine for this configuration.

    Raises InvalidInputError if the cluster cannot be used, OutputError if it fails later.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InvalidInputError(
            "--engine ray needs Ray: install it with `pip install -e '.[ray]'` in a clone"
        ) from None
    _check_reachable(config.address or os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(config.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        place = f"at {config.address}" if config.address else "here"
        raise InvalidInputError(
            f"no Ray cluster can be used {place}: {error}; one with a token needs "
            "RAY_AUTH_MODE=token and the head's "
            "~/.ray/auth_token here"
        ) from error
    try:
        yield RayTasks(ray_devices(config))
    except ray.exceptions.RayError as error:
        raise OutputError(
            f"the Ray cluster failed ({type(error).__name__}): fix that and run the same "
            "command again, everything saved "
            "so far is kept"
        ) from error
    finally:
        ray.shutdown()


def ray_devices(config: RunConfig) -> list[str]:
    """Return the device of each worker: one for each GPU of the cluster, or for each CPU if it has
    no GPU.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, cpus = (sum(int(node.get(kind, 0)) for node in nodes) for kind in ("GPU", "CPU"))
    if config.device == "cuda" and not gpus:
        raise InvalidInputError(
            "--device cuda: no node of the Ray cluster has a GPU; use --device cpu"
        )
    device, count = ("cuda", gpus) if gpus and config.device != "cpu" else ("cpu", cpus)
    if not count:
        raise InvalidInputError(
            "no node of the Ray cluster has a CPU for workers: start one with --num-cpus"
        )
    return [device for _ in range(count if config.jobs == "auto" else config.jobs)]


class RayTasks:
    """The engine of a Ray cluster; `optim_study.engines` describes its methods."""

    def __init__(self, places: Sequence[str]):
        import ray

        self.places, lost = places, ray.exceptions
        self.deaths = (lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError)
        # A task has one CPU. The driver starts a lost one again.
        self._attempt = ray.remote(_attempt).options(
            max_retries=0, num_gpus=int(places[0] == "cuda")
        )
        self._tasks: dict[Future, ray.ObjectRef] = {}

    def submit(self, place: int, job: Job, on_epoch: Callable[[], None]) -> Future:
        task = self._attempt.remote(job)
        future = task.future()
        self._tasks[future] = task
        return future

    def stop(self, running: Sequence[Future]) -> None:
        import ray

        try:
            for future in running:
                # interrupts its main thread; one that waits for room is dropped
                ray.cancel(self._tasks[future])
            wait(running)
        except KeyboardInterrupt:
            for future in running:
                ray.cancel(self._tasks[future], force=True)
            raise


def _attempt(job: Job) -> BaseException | None:
    import torch

    torch.set_num_threads(1)
    return attempt(job, lambda: False)


def _check_reachable(address: str) -> None:
    """Raise InvalidInputError if nothing listens at HOST:PORT; without this check Ray tries for
    minutes.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # a keyword of Ray, such as `local`
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InvalidInputError(
            f"no Ray cluster answers at {address}: {error}; see what `ray start --head` prints"
        ) from error
