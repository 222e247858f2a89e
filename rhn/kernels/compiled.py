"""The compiled library: small recurrences and their losses in C on a CPU, with the whole loop over
time in one call. The machine's own C compiler compiles the C code in `csrc`, once for each user;
without a compiler the kernels in Python are used.

Threads share the items of a call. An item is one model; in the softmax, it is a row of the batch or
a tile of words for one model. An item is computed in one fixed order, so that the bits do not
depend on the number of threads.
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.utils.io import cache_folder
from rhn.utils.threads import in_threads
from rhn.utils.torch_private import has_no_memory, is_traced_by_fx

LANES = 32
SMALL, LARGE = 64, 1000
SWITCH = "RHN_COMPILED"
_SOURCES = Path(__file__).parent / "csrc"
_OPTIONS = "-O3 -march=native -ffp-contract=fast -fno-math-errno -std=gnu11 -shared -fPIC"
_FLAGS = _OPTIONS.split()

_logger = logging.getLogger(__name__)


# The sizes of each function, and its tensors: first those that it reads, then those that it writes.
# J masks of the state (0, 1 or G), relu whether f is relu, shortcuts the last layers that have one;
# of the softmax see `softmax.h`. A tensor has the models' axis first, or 1 there if they share it;
# it may be NULL if C asks for that. y (T, n, rows) are the states, layers (rows / 32, T, L, G n,
# 32) the gates or outputs of all layers.
FORM, GIVEN = "L G J relu shortcuts", "x s0 W R S state_mask candidate_mask"
ROWS = {
    "rhn_recurrence_forward": (f"T B m n {FORM}", f"{GIVEN} b  y layers"),
    "rhn_recurrence_backward": (f"T B m n {FORM}", f"{GIVEN} y layers dy  dx ds0 dW dR db dS"),
    "rhn_bernoulli": ("T B n keys", "y W b frames mask  dy dW db totals"),
    "rhn_softmax_forward": ("groups B n V tiles", "y U b targets mask  nll scale e"),
    "rhn_softmax_states": ("groups B n V tiles", "U targets mask scale e grad  dy"),
    "rhn_softmax_weights": ("groups B n V tiles", "y targets mask scale e grad  dU db"),
}
FUNCTIONS = {name: [names.split() for names in row] for name, row in ROWS.items()}
# the structs of the arguments in C; stride: to the next model, 0 if they share the tensor
_DECLARATIONS = "typedef struct { float *data; long stride; } Tensor;\n" + "".join(
    f"struct {name} {{ long {', '.join(sizes)}; Tensor {', '.join(tensors)}; }};\n"
    for name, (sizes, tensors) in FUNCTIONS.items()
)
# the same structs in Python: the sizes, then the address and the stride of each tensor
_STRUCTS = {}
for function, (sizes, tensors) in FUNCTIONS.items():
    fields: list = [(size, ctypes.c_long) for size in sizes]
    for tensor in tensors:
        fields += (tensor, ctypes.c_void_p), (f"{tensor}_stride", ctypes.c_long)
    _STRUCTS[function] = type("Arguments", (ctypes.Structure,), {"_fields_": fields})


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load the compiled library, or return None and log the reason. RHN_COMPILED=0 turns it off."""
    if os.environ.get(SWITCH) == "0":
        return None
    names = filter(None, (os.environ.get("CC"), "cc", "gcc", "clang"))
    compiler = next(filter(None, map(shutil.which, names)), None)
    reason: object = "no C compiler"
    if compiler is not None:
        try:
            return _load(compiler)
        except OSError as error:
            reason = error
    _logger.info("The recurrences run without compiled code: %s", reason)
    return None


def _load(compiler: str) -> ctypes.CDLL:
    """Load the library from this user's cache, or build a new one."""
    folder, kept = _private_folder(), None
    if folder is not None:
        # the macros identify the compiler and this CPU
        macros = _run(compiler, *_FLAGS, "-dM", "-E", "-x", "c", os.devnull)
        sources = [path.read_bytes() for path in sorted(_SOURCES.glob("*.[ch]"))]
        content = b"\0".join([macros, repr(_FLAGS).encode(), _DECLARATIONS.encode(), *sources])
        kept = folder / f"kernels-{hashlib.sha256(content).hexdigest()[:16]}.so"
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(kept))
        if not os.access(folder, os.W_OK):  # such as a home that is mounted read-only
            _logger.warning("%s cannot be written: each process compiles the kernels", folder)
            folder = kept = None
    with tempfile.TemporaryDirectory(dir=folder) as room:
        new = Path(room) / "kernels.so"
        program = _DECLARATIONS + '#include "kernels.c"\n'
        arguments = ["-I", str(_SOURCES), "-x", "c", "-", "-o", str(new)]
        _run(compiler, *_FLAGS, *arguments, program=program.encode())
        return ctypes.CDLL(str(new if kept is None else new.replace(kept)))


def _private_folder() -> Path | None:
    """Return the folder of the library; None unless only this user can enter and change it."""
    path = cache_folder() / "compiled"
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
        is_closed_folder = status.st_mode & ~0o7700 == stat.S_IFDIR
        if is_closed_folder and status.st_uid == os.geteuid():
            return path
    _logger.warning("%s is no folder of this user only: each process compiles the kernels", path)
    return None


def _run(compiler: str, *arguments: str, program: bytes = b"") -> bytes:
    done = subprocess.run([compiler, *arguments], input=program, capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise OSError(f"{compiler} failed: {last}")
    return done.stdout


def call_c(name: str, K: int, *, items: int = 1, **arguments: Any) -> None:
    """Run a function of the library for K models. The arguments are the numbers, tensors (float32
    on the CPU) and Nones of the function's row; others are ignored. Threads share the `items` of
    each model. A record of operations would lack the values that C writes: InvalidInputError.
    """
    if is_traced_by_fx():
        raise InvalidInputError(f"{name} cannot be recorded: trace the forward pass too")
    sizes, tensors = FUNCTIONS[name]
    given = [None if (t := arguments[key]) is None else _in_memory(t) for key in tensors]
    values: dict[str, Any] = {size: arguments[size] for size in sizes}
    for key, t in zip(tensors, given, strict=True):
        if t is not None:
            values[key] = t.data_ptr()
            if len(t) > 1:  # the stride stays 0 if the models share a tensor
                values[f"{key}_stride"] = t.stride(0)
    loaded: Any = library()
    held, all_items = (_STRUCTS[name](**values), given), K * items  # C has only their addresses
    parts = min(torch.get_num_threads(), all_items)
    bounds = [ctypes.c_long(all_items * i // parts) for i in range(parts + 1)]
    mode = ctypes.c_ulong(loaded.rhn_float_mode())

    def run(part: int) -> int:
        """Compute a part of the items. Returns 0 if there was enough memory."""
        loaded.rhn_set_float_mode(mode)
        return getattr(loaded, name)(ctypes.byref(held[0]), *bounds[part : part + 2])

    if max(in_threads(run, range(parts), parts)):
        raise MemoryError(f"there is not enough memory for {name} of {K} models")


def _in_memory(t: Tensor) -> Tensor:
    """Return a contiguous tensor: a gradient may be negated lazily, or zero without memory."""
    if has_no_memory(t):
        return torch.zeros(t.shape, dtype=t.dtype)
    return t.resolve_neg().contiguous()


def padded(rows: int) -> int:
    """Return the number of rows, rounded up to a multiple of 32."""
    return -(-rows // LANES) * LANES


def lanes(t: Tensor) -> Tensor:
    """Return t (..., B, n) in the layout of C, (..., n, rows), with zeros in the added rows."""
    B = t.shape[-2]
    return F.pad(t.transpose(-1, -2), (0, padded(B) - B)).contiguous()


def rows(t: Tensor, B: int) -> Tensor:
    """Return a view (..., B, n) of t (..., n, rows)."""
    return t[..., :B].transpose(-1, -2)


def supports(x: Tensor, *, units: int, layers: int = 1) -> bool:
    """Return True if C computes a call with inputs (T, B, m) in float32.

    It was measured to be faster up to 64 units for any batch, and up to 1000 units if the batch
    fills all rows up to a multiple of 32; in between in proportion. x must not be much wider than
    the state.
    """
    B, m = x.shape[-2:]
    if x.device.type != "cpu" or x.numel() == 0:
        return False
    if units > SMALL and units * padded(B) > LARGE * B:
        return False
    return m <= max(128, 4 * layers * units) and library() is not None


class Sizes(NamedTuple):
    """The sizes of a recurrence, in the letters of `rhn.kernels`; J masks of the state."""

    T: int
    B: int
    m: int
    n: int
    L: int
    G: int
    J: int
    shortcuts: int


def forward(*, activation: str, K: int, keep: bool, **tensors: Any):
    """Return (states (K, T, B, n), and with `keep` the same states in the layout of C, and gates or
    outputs of all layers).
    """
    sizes = _sizes_of(**tensors)
    T, B, n, filled = sizes.T, sizes.B, sizes.n, padded(sizes.B)
    y = tensors["x"].new_empty(K, T, n, filled)
    layers = None
    if keep:
        layers = y.new_empty(K, filled // LANES, T, sizes.L, sizes.G * n, LANES)
    call = _arguments(sizes, tensors, activation)
    call_c("rhn_recurrence_forward", K, **call, y=y, layers=layers)
    return (rows(y, B).clone(), y, layers) if keep else (rows(y, B),)


def backward(grad: Tensor, needs, residuals, *, activation: str, **tensors: Any):
    """Return the gradients for x, s0, W, R, b and S by name, each with a leading axis of K."""
    y, layers = residuals
    sizes, K = _sizes_of(**tensors), len(y)
    B, filled = sizes.B, padded(sizes.B)
    names = ("W", "R", "b") if tensors["S"] is None else ("W", "R", "b", "S")
    weights = {name: y.new_empty(K, *tensors[name].shape[1:]) for name in names}
    dx = y.new_empty(K, sizes.T, sizes.m, filled) if needs["x"] else None
    ds0 = y.new_empty(K, sizes.n, filled)
    call = _arguments(sizes, tensors, activation)
    call |= {"y": y, "layers": layers, "dy": lanes(grad), "dx": dx, "ds0": ds0, "dS": None}
    call |= {f"d{name}": t for name, t in weights.items()}
    call_c("rhn_recurrence_backward", K, **call)
    dx = None if dx is None else rows(dx, B).contiguous()
    return {"x": dx, "s0": rows(ds0, B).contiguous(), **weights}


def _sizes_of(*, x: Tensor, R: Tensor, S: Tensor | None, state_mask: Tensor | None, **_) -> Sizes:
    """Return the sizes of a call with these tensors."""
    (T, B, m), (L, rows_of_R, n) = x.shape[1:], R.shape[1:]
    J = 0 if state_mask is None else state_mask.shape[1]
    shortcuts = 0 if S is None else S.shape[1]
    return Sizes(T, B, m, n, L, rows_of_R // n, J, shortcuts)


def _arguments(sizes: Sizes, tensors: dict, activation: str) -> dict[str, Any]:
    """Return the arguments of a call, with the state and its masks in the layout of C."""
    call = sizes._asdict() | tensors | {"relu": int(activation == "relu")}
    for name in ("s0", "state_mask", "candidate_mask"):
        call[name] = None if tensors[name] is None else lanes(tensors[name])
    return call
