"""`rhn`: train a model of chorales or of text, evaluate it, let it compose or write."""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from rhn.command import parse, run_command
from rhn.commands import data, train
from rhn.commands.evaluate import Evaluate
from rhn.commands.generate import Generate
from rhn.commands.presets import Presets
from rhn.commands.report import Report
from rhn.commands.resume import Resume
from rhn.commands.sample import Sample

DESCRIPTION = """Train recurrent models of text and of chorales, evaluate them, and let them write and compose.

examples:
  rhn data get ptb
  rhn train ptb-sota --out runs/sota
  rhn evaluate runs/sota/best.safetensors --split test
  rhn generate runs/sota/best.safetensors --prompt "the company"
  rhn train jsb-depth-6 --out runs/depth6
  rhn sample runs/depth6/best.safetensors --output chorale.mid"""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Fetch a data set, or see what one holds."""

    what: tyro.conf.OmitSubcommandPrefixes[
        Annotated[data.Get, tyro.conf.subcommand("get")] | Annotated[data.Show, tyro.conf.subcommand("show")]
    ]

    def run(self) -> None:
        self.what.run()


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    words = sys.argv[1:] if args is None else args

    def run() -> None:
        trains = words[:1] == ["train"]
        parse(_commands(words), words, prog="rhn", description=DESCRIPTION, flag_pairs=trains).run()

    return run_command(run)


def _commands(words: list[str]):
    """All subcommands; the options of `train` depend on the words after it."""
    trains = words[:1] == ["train"]
    default, about = train.train_options(words[1:] if trains else []), train.HELP if trains else train.SUMMARY
    return (
        Annotated[type(default), tyro.conf.subcommand("train", default=default, description=about)]
        | Annotated[Resume, tyro.conf.subcommand("resume")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Generate, tyro.conf.subcommand("generate")]
        | Annotated[Sample, tyro.conf.subcommand("sample")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Presets, tyro.conf.subcommand("presets")]
        | Annotated[Data, tyro.conf.subcommand("data")]
    )


if __name__ == "__main__":
    sys.exit(main())
