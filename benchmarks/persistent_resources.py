"""What the persistent kernels ask of a GPU, without one: compiled for sm_90, their shared memory, registers and spilled bytes a thread.

    python -m benchmarks.persistent_resources

Exit code 1 where a kernel asks for more shared memory than `rhn.kernels.persistent.shapes.shared` says.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rhn.kernels.persistent.highway_backward import highway_backward_kernel
from rhn.kernels.persistent.highway_forward import highway_forward_kernel
from rhn.kernels.persistent.shapes import Spread, Work, shared, spread
from rhn.kernels.persistent.transition_backward import transition_backward_kernel
from rhn.kernels.persistent.transition_forward import transition_forward_kernel

H200 = (132, 232448)  # multiprocessors, bytes of shared memory a block
KERNELS = {
    ("highway", "forward"): highway_forward_kernel,
    ("highway", "backward"): highway_backward_kernel,
    ("transition", "forward"): transition_forward_kernel,
    ("transition", "backward"): transition_backward_kernel,
}
CASES = (  # kernel, models, units, gates, batch rows, masks of the state, shortcuts
    ("highway", 1, 830, 2, 20, 1, False),
    ("highway", 60, 262, 2, 32, 0, False),
    ("highway", 1, 1000, 2, 128, 2, False),
    ("highway", 1, 830, 3, 20, 0, False),
    ("transition", 60, 262, 1, 32, 0, True),
    ("transition", 1, 1175, 1, 20, 1, False),
)
OPERANDS = ("P", "PS", "SH", "A", "DZ")
FLOATS = ("XW", "Bias", "SM", "CM", "S", "DY", "DS", "DK")


def compiled(kernel, plan: Spread, bytes_: int, **constants):
    """The kernel as a launch of these shapes would have it, for compute capability 9.0."""
    constants |= dict(zip(("K0", "K1", "K2"), plan.tiles, strict=True))
    constants |= {"ROWS": plan.rows, "U": plan.units, "AHEAD": plan.ahead, "ALONE": plan.blocks == 1}
    constants |= {name: 1 for name in ("chunks", "groups") if getattr(plan, name) == 1}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    types = dict.fromkeys(OPERANDS, "*fp16" if bytes_ == 2 else "*fp32") | dict.fromkeys(FLOATS, "*fp32")
    types |= {"Count": "*i32", "scale": "fp32"}
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    options = {"num_warps": plan.warps, "num_stages": 1, "launch_cooperative_grid": plan.blocks > 1}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def usage(cubin: bytes) -> tuple[int, int]:
    """(registers, spilled bytes) of a thread."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    words = said.stdout + said.stderr
    return tuple(int(re.search(rf"{name}:(\d+)", words)[1]) for name in ("REG", "STACK"))


def main() -> int:
    print("triton", triton.__version__, flush=True)
    too_much = False
    for name, K, n, G, B, J, skips in CASES:
        for direction in ("forward", "backward"):
            for operand in (2, 4):
                work = Work(direction, K, n, G, B, operand, skips)
                plan = spread(work, *H200)
                if plan is None:
                    print(f"{name} {work}: does not fit")
                    continue
                own = {"G": G, "J": J, "CANDIDATE": False, "SKIP": skips, "MASK": bool(J)}
                kernel = compiled(KERNELS[name, direction], plan, operand, **own)
                registers, spilled = usage(kernel.asm["cubin"])
                said = shared(work, plan.rows, plan.units, ahead=plan.ahead)
                too_much |= kernel.metadata.shared > said
                memory = f"shared {kernel.metadata.shared / 1024:.0f} of {said / 1024:.0f} KB said"
                print(f"{name} {work} {plan}: {memory}, {registers} registers, {spilled} bytes spilled", flush=True)
    return int(too_much)


if __name__ == "__main__":
    sys.exit(main())
