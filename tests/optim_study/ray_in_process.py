"""A stand-in for Ray: tasks, and calls of actors, run in this process when they are submitted."""

from types import ModuleType, SimpleNamespace


class _Task:
    def __init__(self, value):
        self.value = value


class _Remote:
    """A function or a class of actors; options of their placement mean nothing here."""

    def __init__(self, target):
        self._target = target

    def options(self, **_):
        return self

    def remote(self, *arguments):
        made = self._target(*arguments)
        return _Actor(made) if isinstance(self._target, type) else _Task(made)


class _Actor:
    def __init__(self, instance):
        self._instance = instance

    def __getattr__(self, name):
        return _Remote(getattr(self._instance, name))


def modules(cpus: int) -> dict[str, ModuleType]:
    """What `import ray` finds: a cluster of one node with so many CPUs."""
    ray, strategies = ModuleType("ray"), ModuleType("ray.util.scheduling_strategies")
    errors = {name: type(name, (Exception,), {}) for name in ("TaskCancelledError", "RayTaskError", "RayError")}
    ray.__dict__.update(
        init=lambda address, **_: None,
        shutdown=lambda: None,
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": float(cpus), "memory": 8e9}}],
        get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: "here"),
        remote=_Remote,
        wait=lambda tasks, timeout=None: (list(tasks), []),
        get=lambda tasks: [task.value for task in tasks] if isinstance(tasks, list) else tasks.value,
        exceptions=SimpleNamespace(**errors),
    )
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: node
    return {"ray": ray, "ray.util": ModuleType("ray.util"), "ray.util.scheduling_strategies": strategies}
