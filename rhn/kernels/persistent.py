"""The recurrence of a coupled highway network on a GPU: one Triton kernel forward and one backward,
each of which stays on the processor for all stages.

`rhn.kernels.transition` starts some ten operations a stage. At 830 units and 20 rows, starting them
and waiting for their memory takes most of the time. Here a block of threads owns `UNITS` units for
all times and layers, and keeps their state (backward: their gradient) in registers. In each stage
the blocks write what they own to a buffer that all read, meet at a barrier, and multiply what they
read by their own rows (backward: columns) of R, which were loaded before the barrier.

    forward    write s m;  meet;  z = R (s m) + W x + b;  s = s + t (h - s)
    backward   write dz;   meet;  ds = c ds + m (R' dz)

`rhn.kernels.transition` describes states S, gates A and the local derivatives. There are two
buffers in turn: when a block writes to one of them, all others have read what was there before.

The operands of a product are written as sums of bfloat16 numbers, three of which hold the 24 bits
of a float32; sums, states and gates are float32. Where torch's own products may be less precise
(`torch.set_float32_matmul_precision("high")`), two are taken, 16 bits.
"""

import functools
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import pad

from rhn.kernels import transition
from rhn.kernels.matmul import Mask, input_product, workspace

UNITS = 8  # of a block: the narrowest tile of the tensor cores
WARPS = 8  # of a block; each takes a share of a product's sum
MOST_ROWS, MOST_UNITS = 32, 1024  # a block's tiles lie in its registers
CAPABILITY = (9, 0)  # of the GPUs tried
PARTS = {"highest": 3, "high": 2, "medium": 1}  # bfloat16 numbers for each float32
ONE_LINE = 32  # numbers in a line of cache: a counter has one for itself


@functools.cache
def triton_code() -> ModuleType | None:
    """The module with the Triton code, or None where Triton is not installed."""
    try:
        from rhn.kernels import persistent_triton
    except ImportError:
        return None
    return persistent_triton


def missing(device: torch.device) -> str | None:
    """Return the reason why a device computes nothing here; None if it does."""
    if device.type != "cuda" or torch.version.hip is not None:
        return "it needs an NVIDIA GPU"
    if torch.cuda.get_device_capability(device) < CAPABILITY:
        return f"it needs compute capability {CAPABILITY[0]}.{CAPABILITY[1]}"
    return None if triton_code() else "Triton is not installed"


def limit(
    x: Tensor,
    R: Tensor,
    S: Tensor | None,
    state_mask: Mask,
    candidate_mask: Mask,
    activation: str,
    **others,
) -> str | None:
    """Return the reason why a call is not computed here; None if it is."""
    B, (gn, n) = x.shape[-2], R.shape[-2:]
    if reason := missing(x.device):
        return reason
    if x.dtype != torch.float32:
        return f"it computes float32, not {x.dtype}"
    if gn != 2 * n or activation != "tanh" or candidate_mask is not None:
        return "it computes coupled gates with tanh and no mask of candidates"
    if state_mask is not None and state_mask.shape[-3] != 1:
        return "it computes one state mask for all gates"
    if not 0 < B <= MOST_ROWS or n > MOST_UNITS or not meet(1, n, x.device):
        return f"it computes at most {MOST_ROWS} rows and {MOST_UNITS} units"
    return None


def meet(K: int, n: int, device: torch.device) -> bool:
    """Whether all blocks of K models run at once; else they would wait for each other for ever."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return K * -(-n // UNITS) <= processors


def forward(x, s0, W, R, b, S, state_mask, candidate_mask, *, activation: str, K: int, keep: bool):
    """See `transition.forward`."""
    (T, B), (L, gn, n) = x.shape[1:3], R.shape[1:]
    if not meet(K, n, x.device):
        options = {"activation": activation, "K": K, "keep": keep}
        return transition.forward(x, s0, W, R, b, S, state_mask, candidate_mask, **options)
    S, A = workspace(R, K, L, T + 1, B, n), workspace(R, K, L, T, B, gn)
    addend = input_product(x, W, b[:, 0], K)
    s0 = s0.expand(K, -1, -1).contiguous()
    _launch("forward", S, R, state_mask, addend=addend, s0=s0, A=A, b=b.contiguous())
    return S[:, 0, 1:].clone(), S, A


def backward(
    grad, needs, residuals, *, x, W, R, S, state_mask, candidate_mask, activation: str, **others
):
    """See `transition.backward`."""
    states, A = residuals
    K, n = len(A), R.shape[-1]
    if not meet(K, n, x.device):
        tensors = {"x": x, "W": W, "R": R, "S": S, "state_mask": state_mask}
        options = {"candidate_mask": candidate_mask, "activation": activation}
        return transition.backward(grad, needs, residuals, **tensors, **options)
    D, ds0 = workspace(A, *A.shape), workspace(A, K, A.shape[3], n)
    _launch("backward", states, R, state_mask, grad=grad.contiguous(), A=A, D=D, ds0=ds0)
    return transition.gradients(D, ds0, states, needs, x=x, W=W, state_mask=state_mask)


def _launch(
    name: str, S: Tensor, R: Tensor, mask: Mask, units: int = UNITS, warps: int = WARPS, **tensors: Tensor
) -> None:
    """Run a pass for the states S (K, L, T + 1, B, n); the tensors of K models are contiguous as
    `workspace` makes them.

    units, warps: of a block.
    """
    K, L, steps, B, n = S.shape
    width = -(-n // 16) * 16  # rows of R and of the buffer start where wide loads may
    share = max(16, (1 << (width - 1).bit_length()) // warps)
    rows, gates = 16 if B <= 16 else 32, 1 if name == "forward" else 2
    tiles = _parts(pad(R.unflatten(2, (2, n)), (0, width - n, 0, width - n)))
    blocks = -(-n // units)
    sizes = {"T": steps - 1, "L": L, "K": K, "B": B, "n": n}
    # what a model adds to an index; 0 of a tensor that the models share
    strides = {"R_plane": tiles.stride(0), "R_layers": L if len(R) > 1 else 0}
    strides["mask_rows"] = B if mask is not None and len(mask) > 1 else 0
    if "b" in tensors:
        strides["b_layers"] = L if len(tensors["b"]) > 1 else 0
    getattr(triton_code(), name)[(K * blocks,)](
        **tensors,
        S=S,
        R=tiles,
        mask=S if mask is None else mask.contiguous(),
        room=tiles.new_zeros(2, K, gates, len(tiles), rows, width),
        counter=torch.zeros(K, ONE_LINE, dtype=torch.int32, device=S.device),
        **sizes,
        **strides,
        C=blocks,
        ROWS=rows,
        UNITS=units,
        SHARES=warps,
        SHARE=share,
        WIDTH=width,
        MASKED=mask is not None,
        PARTS=len(tiles),
        num_warps=warps,
        launch_cooperative_grid=blocks > 1,
    )


def _parts(x: Tensor) -> Tensor:
    """A float32 tensor (...) as a sum of bfloat16 numbers (parts, ...), the largest first."""
    parts = []
    for _ in range(PARTS[torch.get_float32_matmul_precision()]):
        parts.append(x.bfloat16())
        x = x - parts[-1]
    return torch.stack(parts)
