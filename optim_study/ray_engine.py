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

from optim_study.config import RunConfig
from optim_study.work import Job, attempt
from rhn.errors import InvalidInputError, OutputError, first_line

REACH_SECONDS = 10


@contextmanager
def ray_tasks(config: RunConfig) -> Iterator["RayTasks"]:
    """Connect to a Ray cluster and return the engine for this configuration."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = config.address or os.environ.get("RAY_ADDRESS", "")
    try:
        import ray

        host, _, port = address.removeprefix("ray://").rpartition(":")
        if port.isdecimal():  # without this look Ray tries for minutes
            socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
        ray.init(config.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ImportError, OSError, OverflowError, ValueError, RuntimeError) as error:
        raise InvalidInputError(f"address is {address!r}: {first_line(error)}") from error
    try:
        yield RayTasks(ray_devices(config))
    except ray.exceptions.RayError as error:
        raise OutputError(f"the Ray cluster failed: {type(error).__name__}") from error
    finally:
        ray.shutdown()


def ray_devices(config: RunConfig) -> list[str]:
    """Return the device of each worker: one for each GPU, or for each CPU without a GPU."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, cpus = (sum(int(node.get(kind, 0)) for node in nodes) for kind in ("GPU", "CPU"))
    device, count = ("cuda", gpus) if gpus and config.device != "cpu" else ("cpu", cpus)
    if config.device not in ("auto", device) or not count:
        raise InvalidInputError(f"device is {config.device!r}: expected {gpus} GPUs, {cpus} CPUs")
    return [device for _ in range(config.jobs or count)]


class RayTasks:
    """The engine of a Ray cluster; `optim_study.engines` describes its methods."""

    def __init__(self, places: Sequence[str]):
        import ray

        self.places, lost = places, ray.exceptions
        self.deaths = (lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError)
        # A task has one CPU. The driver starts a lost one again.
        gpus = 1 if places[0] == "cuda" else 0
        self._attempt = ray.remote(_attempt).options(max_retries=0, num_gpus=gpus)
        self._tasks: dict[Future, ray.ObjectRef] = {}

    def submit(self, place: int, job: Job, on_epoch: Callable[[int], None]) -> Future:
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
