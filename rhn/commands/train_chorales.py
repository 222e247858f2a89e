"""`rhn train jsb-...`: the polyphonic model on the chorales."""

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

from rhn.command import print_json, resolve_device
from rhn.commands.starting import about_data, minutes
from rhn.presets import ChoraleConfig

if TYPE_CHECKING:
    from rhn.commands.resume import Resume
    from rhn.commands.train import Train


def train_chorales(config: ChoraleConfig, options: "Train | Resume") -> None:
    """Train or go on, and print what it came to."""
    from rhn.chorales.progress import training_progress
    from rhn.chorales.runs import train
    from rhn.data import chorales
    from rhn.engine.numerics import keep_memory

    told = {"device": resolve_device(options.device), "max_minutes": minutes(options)}
    corpus = chorales(options.data)
    keep_memory()
    with training_progress(config) as show:
        result = train(config, corpus, options.out, **told, about=about_data(options.data), on_unit=show)
    if options.json:
        print_json(asdict(result))
        return
    stopped = "diverged" if result.diverged else "done" if result.finished else "time ran out"
    print(f"{stopped} after {result.epochs} epochs; the best is epoch {result.best_epoch}, in nats a frame:")
    print(f"train {result.train_nll:.4f}   valid {result.valid_nll:.4f}   test {result.test_nll:.4f}")
    print(f"checkpoint: {result.checkpoint}")
    if not result.finished:
        print(f"rhn resume {shlex.quote(str(options.out))} goes on")
