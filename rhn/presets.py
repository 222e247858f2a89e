"""The old path of `rhn.training.configure.preset`, until 1.1."""

from rhn.training.configure import preset as preset
