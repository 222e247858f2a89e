"""Build or load networks: new cells by name, cells of checkpoints, and modules of the user with weights from a file.

A user's factory, `package.module:factory`, is called without arguments, or with input_size and hidden_size if it takes them, and
returns a torch module. Weights come from .safetensors or from a state_dict that torch.save wrote; only tensors are unpickled.

Legend: T steps; m inputs of a cell; a sequence is numbers (T, m), or ids of tokens (T,) for a language model.
"""

import inspect
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gersgorin._validate import users_code
from gersgorin.cell import as_cell
from gersgorin.loading.find import Watched, cell_title, recurrent_cells
from gersgorin.run import Run
from rhn.cells import accepts, is_known, name_of_cell, read_options, resolve_cell
from rhn.cells import cell_options as options_of_cell
from rhn.cells.base import require_possible
from rhn.cells.convert import OURS
from rhn.cells.registry import import_named
from rhn.checkpoints import load_model, weights_file
from rhn.errors import CheckpointError, InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.plotting.provenance import named_file, words_of_checkpoint, words_of_new
from rhn.training.trained import initial_model
from rhn.utils.io import atomic_path
from rhn.utils.validation import check_room, not_dense_real
from rhn.utils.wording import counted, first_line

COPIES = 2  # of the weights: the module and its float64 copy
UNITS = 64  # if a factory requires a hidden_size
WRAPPED = ("state_dict", "model_state_dict", "model")  # keys of the weights in files of trainings
PREFIXES = ("module.", "_orig_mod.")  # of names wrapped by DataParallel and torch.compile


def build_module(name: str, **options) -> nn.Module:
    """The module of a factory; see `drawn_module`."""
    return drawn_module(name, **options)[0]


def drawn_module(
    name: str, *, input_size: int | None, hidden_size: int | None = None, seed: int = 0, weights: Path | None = None
) -> tuple[nn.Module, bool]:
    """Return (the module of a factory with initial weights drawn from a seed, True if the seed decided them).

    The state of torch's random generator does not change.

    input_size, hidden_size: passed if the factory takes them; hidden_size None: not given by the user.
    weights: a file from which the sizes of torch.nn's modules are read; its numbers are not used here.

    Raises InvalidInputError if there is no such factory, or if it raises, requires other arguments, or returns no module.
    """
    found = import_named(name, "module")
    takes = {} if isinstance(found, nn.Module) else _arguments(found)
    if hidden_size is not None and "hidden_size" not in takes:
        raise InvalidInputError(f"hidden_size is {hidden_size}: {name} takes no hidden_size; leave it out")
    sizes = {"input_size": input_size, "hidden_size": hidden_size}
    if takes.get("hidden_size") and hidden_size is None:
        sizes["hidden_size"] = UNITS
    keywords = {key: value for key, value in sizes.items() if key in takes and value is not None}
    require_possible(input_size or 1, hidden_size or 1)
    if weights is not None and hidden_size is None and _is_torchs(found):
        keywords |= sizes_in(read_state(weights_file(weights)))
    expected = "expected a factory without arguments, or of input_size and hidden_size"
    with users_code(f"cannot build {name}", expected), torch.random.fork_rng(devices=[]):
        if "hidden_size" in takes:
            _check_memory(name, lambda: found(**keywords))
        torch.default_generator.manual_seed(seed)
        before = torch.default_generator.get_state()
        module = found if isinstance(found, nn.Module) else found(**keywords)
        same_seed = torch.default_generator.initial_seed() == seed
        drawn = same_seed and not torch.equal(before, torch.default_generator.get_state())
    if not isinstance(module, nn.Module):
        raise InvalidInputError(f"{name} returns a {type(module).__name__}: expected a torch.nn.Module")
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters()):
        raise InvalidInputError(f"{name} has weights of no size yet: run it once in its factory")
    return module, drawn


def load_weights(module: nn.Module, path: Path) -> None:
    """Load all weights of a module from a file; the module does not change if they do not fit.

    Raises CheckpointError for a file that is missing or damaged, contains more than tensors, does not match the module's names and
    shapes, or holds NaN.
    """
    expected, path = module.state_dict(), weights_file(path)
    found = _without_prefix(read_state(path), expected)
    wrong = [f"lacks {name}" for name in expected.keys() - found.keys()]
    wrong += [f"has an unknown {name}" for name in found.keys() - expected.keys()]
    wrong += [
        f"has {name} of shape {tuple(t.shape)}, expected {tuple(expected[name].shape)}"
        for name, t in found.items()
        if name in expected and t.shape != expected[name].shape
    ]
    if wrong:
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: it {_few(wrong)}")
    for name, t in found.items():
        if (kind := not_dense_real(t)) or not torch.isfinite(t).all():
            raise CheckpointError(
                f"{path}: {name} holds {kind or 'NaN or infinity'}: expected finite dense real numbers"
            )
    module.load_state_dict(found)


def save_weights(module: nn.Module, path: Path) -> None:
    """Write all weights of a module for `load_weights`, atomically. Raises OutputError."""
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in module.state_dict().items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors))


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, from a .safetensors file, a state_dict, or a training's file with a state_dict in it.

    Raises CheckpointError.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights at {path}")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt", device="cpu") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        with warnings.catch_warnings(action="ignore"):  # about pickles of other protocols
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} asks for more than tensors, and nothing else is unpickled: expected what "
            "torch.save(model.state_dict(), FILE) writes, or .safetensors"
        ) from error
    except Exception as error:  # whatever torch makes of a damaged file
        reason = first_line(error)
        raise CheckpointError(f"{path} is no whole file of weights (truncated or damaged): {reason}") from error
    candidates = [found, *(found.get(key) for key in WRAPPED if isinstance(found, Mapping))]
    state = next((each for each in candidates if _is_state(each)), None)
    if state is None:
        said = f"keys {_few(map(str, found))}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise CheckpointError(f"{path} holds {said}: expected a state_dict, alone or under {' or '.join(WRAPPED)}")
    return dict(state)


def sizes_in(state: Mapping[str, Tensor]) -> dict[str, int | bool]:
    """Arguments of the torch.nn RNN, LSTM, GRU or cell that these weights belong to; empty for other modules.

    >>> sizes_in(nn.LSTM(3, 5, num_layers=2, bias=False).state_dict())
    {'input_size': 3, 'hidden_size': 5, 'bias': False, 'num_layers': 2}
    """
    found = re.findall(r"^weight_ih(_l\d+)?$", "\n".join(state), re.MULTILINE)
    if not found or f"weight_hh{found[0]}" not in state:
        return {}
    shapes = [tuple(state[f"{name}{found[0]}"].shape) for name in ("weight_ih", "weight_hh")]
    if not all(len(shape) == 2 for shape in shapes):
        return {}
    sizes = {"input_size": shapes[0][1], "hidden_size": shapes[1][1], "bias": f"bias_hh{found[0]}" in state}
    several = {"num_layers": len(found)} if found[0] else {}
    return sizes | several | ({"bidirectional": True} if any(name.endswith("_reverse") for name in state) else {})


def _is_torchs(factory) -> bool:
    return any(factory.__init__ is theirs.__init__ for theirs in OURS)


def _check_memory(name: str, build: Callable[[], nn.Module]) -> None:
    """Raise InvalidInputError if the weights exceed the free memory; counted on the "meta" device if the factory can run there."""
    try:
        with torch.device("meta"):
            need = COPIES * sum(8 * p.numel() for p in build().parameters())
    except Exception:  # the real build reports its errors
        return
    check_room(need, name, "use fewer hidden units")


def _arguments(factory) -> dict[str, bool]:
    """The sizes that a factory takes, each with True if it is required."""
    if _is_torchs(factory):  # their signatures hide the arguments
        return {"input_size": True, "hidden_size": True}
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # built-in functions have no signature
        return {}
    taken = (name for name in ("input_size", "hidden_size") if name in parameters)
    return {name: parameters[name].default is inspect.Parameter.empty for name in taken}


def _is_state(value) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(t, Tensor) for t in value.values())


def _without_prefix(found: dict[str, Tensor], expected: Mapping) -> dict[str, Tensor]:
    """Remove the prefixes of wrappers from all names, unless the names of the module have them too."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in found) and not any(name.startswith(prefix) for name in expected):
            found = {name.removeprefix(prefix): t for name, t in found.items()}
    return found


def _few(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


KEYS = 88  # inputs: the keys of a chorale's frames


@dataclass(frozen=True)
class Subject:
    """A cell and how to build it."""

    name: str
    """Its registry key, `package.module:factory`, or class name."""
    build: Callable[[str, torch.dtype], nn.Module]
    """build(device, dtype) -> cell."""
    cell: nn.Module
    """The cell before it is built; a new one is on the "meta" device, where it takes no memory."""
    called: str
    """Its title without the label: "rhn, depth 5, 64 units"."""
    label: str = ""
    """Distinguishes it from others of its name."""
    inputs: Callable[[Tensor], Tensor | Run] = lambda sequence: sequence
    """Inputs of the built cell along a sequence, (T, m) in its dtype; or the run of its module's own loop or scan."""
    made: str = ""
    """Origin of its weights, in words."""

    def __post_init__(self):
        _ = as_cell(self.cell).state_size  # refuses a cell that does not say it

    @property
    def own(self) -> bool:
        """True if the cell is the user's code."""
        return ":" in self.name and not is_known(self.name)

    @property
    def title(self) -> str:
        """Title of figures: the label, if there is one, and "rhn, depth 5, 64 units"."""
        return ": ".join(filter(None, (self.label, self.called)))


def new_cell(
    name: str,
    *,
    depth: int | None,
    hidden_size: int | None,
    seed: int,
    input_size: int = KEYS,
    compared: bool = False,
    cell_options: Mapping | None = None,
    **options,
) -> Subject:
    """A new cell, of depth 1 and 64 units by default. Other options of None are left to the cell.

    cell_options: options of the cell by name, as values or words. `compared` cells ignore options that do not apply to them: the depth
    of a cell without depth, the transform bias and cell_options.
    Raises InvalidInputError for an unknown name, or for sizes and options that the cell does not have.
    """
    factory = resolve_cell(name)
    depth, hidden_size = 1 if depth is None else depth, 64 if hidden_size is None else hidden_size
    options = {k: v for k, v in options.items() if v is not None}
    if compared and not getattr(factory, "deep", True):
        depth = 1
    if "transform_bias" in options and is_known(name) and not accepts(factory, "transform_bias"):
        if not compared:
            raise InvalidInputError(f"transform_bias is for cells with transform gates (rhn), not for {name}")
        del options["transform_bias"]
    if compared:
        known = {option.name for option in options_of_cell(name)}
        cell_options = {option: value for option, value in (cell_options or {}).items() if option in known}
    given = read_options(name, cell_options or {})
    options |= given

    def build(device: str, dtype: torch.dtype) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        return factory(input_size, hidden_size, depth, generator=generator, device=device, dtype=dtype, **options)

    if isinstance(hidden_size, int) and isinstance(depth, int):
        require_possible(input_size, hidden_size, depth)
    expected = (
        "expected a factory of cells (input_size, hidden_size, depth, *, generator, device, dtype), not of modules"
    )
    with users_code(f"cannot build {name} with {hidden_size} units, depth {depth}", "" if is_known(name) else expected):
        cell = build("meta", torch.float64)
    subject = Subject(name, build, cell, with_options(cell_title(cell, name=name), given))
    return replace(subject, made=words_of_new(subject.cell, seed))


def new_model(options, model: Callable[..., nn.Module] = PolyphonicModel, **sizes: int) -> tuple[str, nn.Module]:
    """(Title, model with an output) around the new cell of a command's options.

    sizes: of input and output, or of the vocabulary. Raises InvalidInputError for an option that the cell does not have.
    """
    cell, units, depth = options.cell or "rhn", options.hidden_size or UNITS, options.depth or 1
    own = read_options(cell, options.cell_options)
    given = {"hidden_size": units, "depth": depth, "init": options.init, **sizes} | own
    if options.transform_bias is not None:
        if is_known(cell) and not accepts(resolve_cell(cell), "transform_bias"):
            raise InvalidInputError(f"transform_bias is for cells with transform gates (rhn), not for {cell}")
        given["transform_bias"] = options.transform_bias
    title = with_options(f"{cell}{f', depth {depth}' * (depth > 1)}, {counted(units, 'unit')}", own)
    try:
        return title, model(cell, generator=torch.Generator().manual_seed(options.seed), **given)
    except RuntimeError as error:  # of torch, for sizes beyond any memory
        raise InvalidInputError(
            f"{cell} with {units} units is beyond the memory of this machine: use a smaller hidden size or depth"
        ) from error


def with_options(title: str, options: Mapping) -> str:
    """A title of a network with its given options.

    >>> with_options("leaky, 64 units", {"leak": 0.5})
    'leaky, 64 units, leak 0.5'
    """
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in options.items()}
    return ", ".join([title, *(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())])


def checkpoint_cells(
    path: Path, layer: int | None, own: str | None, *, input_size: int | None = KEYS, before: int | None = None
) -> list[Subject]:
    """A recurrent cell of a checkpoint; layer: counted from 1 if cells are stacked (None: the first); own: name of the user's cell.

    before: return the cell before its training too, with the initial weights that the file describes, or with weights drawn from this
    seed. Raises CheckpointError; InvalidInputError if there is no such cell, or if its network reads other inputs.
    """
    models, made = {"" if before is None else "after training": load_model(path, own)}, words_of_checkpoint(path)
    if before is not None:
        model, known = initial_model(path, before, own)
        models["before training" if known else f"fresh weights (seed {before})"] = model
    found = []
    for label, model in models.items():
        cells = recurrent_cells(model)
        if not cells or not (isinstance(model, LanguageModel) or cells[0].input_size == input_size):
            theirs = ", ".join(f"{type(c).__name__} of {c.input_size} inputs" for c in cells) or "none with step(x, s)"
            what = "a chorale's keys" if input_size == KEYS else "as many as the sequence has"
            raise InvalidInputError(
                f"{path}: expected a recurrent cell with {input_size} inputs ({what}), found {theirs}"
            )
        watched = Watched(model, 1 if layer is None else layer)
        which = f"cell {layer or 1} of {len(cells)}" * (len(cells) > 1)
        name = own or name_of_cell(watched.cell)
        subject = watched_cell(watched, name, ", ".join(filter(None, (label, which))))
        found.append(replace(subject, called=cell_title(watched.cell, name=name), made=made))
    return found


def module_cells(
    name: str,
    *,
    weights: Path | None,
    submodule: str | None,
    layer: int | None,
    input_size: int | None,
    hidden_size: int | None,
    seed: int,
    fresh: bool = False,
) -> list[Subject]:
    """A recurrent cell of the module of `package.module:factory`, see `Watched`; fresh: return the untrained one too.

    Raises InvalidInputError or CheckpointError as `build_module`, `load_weights` and `Watched`.
    """
    found = []
    for file in (weights, None) if fresh else (weights,):
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "weights": weights}
        module, drawn = drawn_module(name, seed=seed, **sizes)
        if file is not None:
            load_weights(module, file)
        fresh_label = f"fresh weights{f' (seed {seed})' * drawn}"
        label = "" if not fresh else "after training" if file else fresh_label
        made = f"seed {seed}" * drawn if file is None else named_file(file)
        found.append(replace(watched_cell(Watched(module, layer, submodule), name, label), made=made))
    return found


def watched_cell(watched: Watched, name: str, label: str = "") -> Subject:
    """The cell of a user's module."""

    def build(device: str, dtype: torch.dtype) -> nn.Module:
        watched.module.to(device=device, dtype=dtype)
        return watched.cell

    def inputs(sequence: Tensor) -> Tensor | Run:
        cell, inputs = watched.along(laid_out(watched, sequence), one=True)
        return cell if isinstance(cell, Run) else inputs

    return Subject(name, build, watched.cell, watched.title, label, inputs=inputs, made=watched.made)


def laid_out(watched: Watched, sequence: Tensor) -> Tensor:
    """A sequence (T, m) in the layout of a module: a batch of one, time or batch first, or without a batch.

    Of the layouts that the module accepts, the one with the most steps is used. Whole numbers, one a step, are ids of tokens for a
    module with an nn.Embedding. Raises InvalidInputError if no layout runs.
    """
    if watched.alone:
        return sequence
    sequence = ids_or_numbers(watched.module, sequence)
    found, errors = [], []
    layouts = [sequence.unsqueeze(batch) for batch in ((0, 1) if watched.batch_first else (1, 0))]
    for x in (*layouts, sequence):
        if found and x is sequence:
            break  # without a batch only if no other layout runs
        try:
            found.append((len(watched.inputs(x)), x))
        except InvalidInputError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return max(found, key=lambda each: each[0])[1]


def ids_or_numbers(module: nn.Module, sequence: Tensor) -> Tensor:
    """A sequence as it is; whole numbers, one a step, as ids of tokens (T,) for a module with an nn.Embedding."""
    embeds = any(isinstance(part, nn.Embedding) for part in module.modules())
    one = sequence.dim() == 2 and sequence.shape[-1] == 1 and sequence.is_floating_point()
    return sequence[:, 0].long() if embeds and one and (sequence == sequence.round()).all() else sequence
