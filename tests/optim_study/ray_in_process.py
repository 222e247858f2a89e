"""A stand-in for Ray: a task runs in this process when it is submitted."""

from concurrent.futures import Future
from types import ModuleType, SimpleNamespace

ERRORS = ("RayError", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError")


class _Remote:
    """A function; options of its placement mean nothing here."""

    def __init__(self, function):
        self._function = function

    def options(self, **_):
        return self

    def remote(self, *arguments):
        future = Future()
        future.set_result(self._function(*arguments))
        return SimpleNamespace(future=lambda: future)


def module(cpus: int) -> ModuleType:
    """What `import ray` finds: a cluster of one node with so many CPUs."""
    ray = ModuleType("ray")
    ray.__dict__.update(
        init=lambda address, **_: None,
        shutdown=lambda: None,
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": float(cpus), "memory": 8e9}}],
        remote=_Remote,
        exceptions=SimpleNamespace(**{name: type(name, (Exception,), {}) for name in ERRORS}),
    )
    return ray
