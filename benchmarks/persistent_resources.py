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

from rhn.kernels.persistent.highway_kernels import highway_backward_kernel, highway_forward_kernel
from rhn.kernels.persistent.shapes import Spread, Work, shared, spread

H200 = (132, 232448)  # multiprocessors, bytes of shared memory a block
KERNELS = {"forward": highway_forward_kernel, "backward": highway_backward_kernel}
CASES = (  # models, units, gates, batch rows, masks of the state
    (1, 830, 2, 20, 1),
    (60, 262, 2, 32, 0),
    (1, 1000, 2, 128, 2),
    (1, 830, 3, 20, 0),
)
OPERANDS = ("P", "SH", "A", "DZ")
FLOATS = ("XW", "Bias", "SM", "CM", "S", "DY", "DS")


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
    for K, n, G, B, J in CASES:
        for direction, code in KERNELS.items():
            work = Work(direction, K, n, G, B)
            plan = spread(work, *H200)
            if plan is None:
                print(f"{work}: does not fit")
                continue
            kernel = compiled(code, plan, work.operand, G=G, J=J, CANDIDATE=False)
            registers, spilled = usage(kernel.asm["cubin"])
            estimate = shared(work, plan.rows, plan.units, ahead=plan.ahead)
            too_much |= kernel.metadata.shared > estimate
            memory = f"shared {kernel.metadata.shared / 1024:.0f} of estimated {estimate / 1024:.0f} KB"
            print(f"{work} {plan}: {memory}, {registers} registers, {spilled} bytes spilled", flush=True)
    return int(too_much)


if __name__ == "__main__":
    sys.exit(main())
