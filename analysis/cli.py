"""`rhn-analyze`: transform gates and lesions of a trained network."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from analysis.outputs import ResultOptions, given_words, show_result
from rhn.cli.entry import resolve_device, run_command
from rhn.errors import InvalidInputError
from rhn.utils.command_line import command_line
from rhn.utils.old import (
    Count,
    Device,
    Outputs,
    TrainedOptions,
    counted,
    figure_name,
    given_flags,
    run_read,
)
from rhn.utils.progress import progress_bars

DESCRIPTION = """\
Measure trained networks: the activity of their transform gates, and the damage of lesions.

examples:
  rhn-analyze gates runs/depth6 --chorales 0 5 bwv269
  rhn-analyze lesion runs/depth6
  rhn-analyze lesion runs/depth6 --mode carry --pairs --output lesions.png lesions.csv
  rhn-analyze gates runs/ptb --data novel.txt --length 40"""


@dataclass(frozen=True, kw_only=True)
class Common(TrainedOptions, ResultOptions):
    """The options of both commands."""

    data: Path | None = None
    """File with the original chorales (.json or .pickle). Default: the file of the training run, or
    else the chorales rebuilt from music21's scores. For a language model: a text file, which is
    split into 90 % train, 5 % valid and 5 % test; or a folder with the text of the training run.
    Default for a language model: the text of the training run, in its stored folder or else in the
    folder of `rhn data get`.
    """
    device: Device = "auto"
    """Device of the computation; auto: a GPU if there is one, else the CPU."""
    chorales: tuple[str, ...] = ()
    """Measure only these chorales, by their number in the split (0 5) or by name (bwv269, valid-3).
    Default: all chorales of the split.
    """
    split: Literal["train", "valid", "test"] | None = None
    """Split of the chorales (default: test) or of the text (default: valid)."""

    def run(self: Any) -> None:
        """Check the options and the files, then measure, draw, write and print."""
        from analysis.sequences import chosen
        from analysis.trained import network_title
        from rhn.checkpoints import read
        from rhn.training.ensemble import tune_malloc
        from rhn.training.trained import stored_data

        words = given_words(self)
        outputs = Outputs.of(self, figure_name(self.name, words.pop("checkpoint"), *words.values()))
        model, corpus, text = _opened(self)
        split, device = self.split or ("valid" if text else "test"), resolve_device(self.device)
        tune_malloc()
        sequences = (
            self.parts_of_text(corpus, split) if text else chosen(corpus, split, self.chorales)
        )
        with progress_bars() as report:
            record = self.measure(
                model, sequences, split, device=device, progress=report(self.name)
            )
            where = f"{split} split"
            if self.chorales:
                where = counted(len(self.chorales), "chosen piece")
            elif text:
                where += f" ({len(getattr(corpus, split)):,} tokens)"
            file = self.data or stored_data(read(self.checkpoint)).path
            source = file.name if file else ("its text" if text else "chorales")
            about = f"{self.checkpoint}; {where} of {source}"
            record = replace(record, title=network_title(model), about=about)
        show_result(outputs, self, record)


@dataclass(frozen=True, kw_only=True)
class GatesCommand(Common):
    """Draw the mean transform gate of each layer over time, as figure 5(b) of the paper. Each layer
    has a line, and each chorale or excerpt of a text has a panel.
    """

    length: Count = 60
    """For a text: number of tokens in an excerpt."""

    name = "gates"

    def parts_of_text(self, corpus, split: str) -> list:
        """Return the parts of a text to measure."""
        from analysis.gates import excerpts_of

        return excerpts_of(corpus, split, length=self.length)

    def measure(self, model, sequences: list, split: str, **run):
        """Measure the network along these sequences, and return the result."""
        from analysis.gates import gate_activity

        found = gate_activity(model, sequences, **run)
        return replace(found, shown=len(self.chorales) or found.shown)


@dataclass(frozen=True, kw_only=True)
class LesionCommand(Common):
    """Measure the loss with each layer switched off in turn (figure 6 of the paper). All lesioned
    networks run as one batch.

    In an RHN only the first layer reads the input, so a lesion of this layer also removes the
    input. In every mode but blind, a control is therefore measured for each layer that reads an
    input: the layer is kept, and only its input is removed (blind). The table also has the damage
    of these layers beyond their controls.
    """

    mode: str | None = None
    """What a lesion does to a layer. bias: its transform gates are shut, as in the paper, and its
    carry gates opened. carry: the layer is skipped exactly. blind: the input is removed. Default:
    bias, or carry for cells without gates.
    """
    length: Count = 200
    """For a text: number of tokens that each sequence predicts. Each sequence starts from a zero
    state.
    """
    max_tokens: Count = 20_000
    """For a text: number of tokens to predict in all, from the beginning of the text."""
    pairs: bool = False
    """Also measure the loss with both layers of every pair switched off."""

    name = "lesion"

    def parts_of_text(self, corpus, split: str) -> list:
        from analysis.sequences import stretches

        return stretches(getattr(corpus, split), length=self.length, max_tokens=self.max_tokens)

    def measure(self, model, sequences: list, split: str, **run):
        from analysis.lesions import lesion

        asked = {name: getattr(self, name) for name in ("mode", "pairs")}
        kind = "chorale" if len(sequences) == 1 else "chorales"
        return lesion(
            model,
            sequences,
            split=f"the chosen {kind}" if self.chorales else split,
            **asked,
            **run,
        )


COMMANDS = command_line("rhn-analyze", DESCRIPTION)
COMMANDS.command(GatesCommand, name="gates")
COMMANDS.command(LesionCommand, name="lesion")


def main(args: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(lambda: run_read(COMMANDS, args))


def _opened(options: GatesCommand | LesionCommand) -> tuple:
    """Return the network in a checkpoint, its corpus or that of --data, and whether the corpus is a
    text. Raises InvalidInputError for an option of the other kind of corpus.
    """
    from analysis.trained import trained_with_data
    from rhn.checkpoints import read

    text = read(options.checkpoint).header["class"] == "LanguageModel"
    for flag in given_flags(options, ("chorales",) if text else ("length", "max_tokens")):
        kinds = ("chorales", "a language model") if text else ("texts", "no language model")
        raise InvalidInputError(
            f"{flag} is for {kinds[0]}, and {options.checkpoint} holds {kinds[1]}: leave it out"
        )
    return *trained_with_data(options.checkpoint, options.data, options.cell), text
