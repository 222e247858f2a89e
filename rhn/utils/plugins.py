"""Find what packages above this one offer to its commands, by entry points: the recorder of `rhn train --record`, the report.

Without installed metadata, as in a source tree, the names below hold.
"""

from importlib.metadata import EntryPoint, entry_points

from rhn.errors import InvalidInputError

GROUP = "rhn_toolkit.plugins"
USUAL = {
    "recorder": "gersgorin.recorder:Recorder",
    "recording": "gersgorin.recording:Recording",
    "report": "analysis.report.cli:main",
}


def plugin(name: str):
    """The class or function of this name. Raises InvalidInputError if its package is not installed."""
    found = [*entry_points(group=GROUP, name=name), EntryPoint(name, USUAL[name], GROUP)]
    try:
        return found[0].load()
    except ModuleNotFoundError as error:
        raise InvalidInputError(f"{found[0].value} cannot be imported ({error}): install the whole toolkit") from error
