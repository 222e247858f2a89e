"""What cells derive from the equation of their step, and lose where a subclass has another: closed forms and kernel."""

DERIVED = ("jacobian", "input_jacobian", "layer_jacobians", "norm_bound", "states")  # from the equation of a step


class _Gone:
    """In the place of a method that no longer holds: the class has none."""

    def __get__(self, cell, owner):
        raise AttributeError


def forget_derived(cls: type, root: type) -> None:
    """Take from a class what cells between it and `root` derived from an equation that it has replaced."""
    for name in DERIVED:
        home = next((each for each in cls.__mro__ if name in each.__dict__), root)
        if home not in (cls, root) and issubclass(home, root):
            setattr(cls, name, root.__dict__.get(name, getattr(root, name, _Gone())))
