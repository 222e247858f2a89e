import sys, itertools, re, subprocess, importlib.util
spec = importlib.util.spec_from_file_location("pt", "/work/main/rhn/kernels/persistent_triton.py")
pt = importlib.util.module_from_spec(spec); spec.loader.exec_module(pt)
import triton
from triton.compiler import ASTSource
from triton.backends.compiler import GPUTarget
PTR = set("addend s0 b mask S A grad D ds0".split())
def comp(fn, warps, rows=32, units=8, padded=1024, width=832, parts=2, C=104, **opt):
    names = fn.arg_names
    const = dict(C=C, ROWS=rows, UNITS=units, SHARES=warps, SHARE=padded//warps, WIDTH=width, MASKED=True, PARTS=parts)
    const = {k: v for k, v in const.items() if k in names}
    sig = {n: ("constexpr" if n in const else "*i32" if n == "counter" else "*bf16" if n in ("R","room") else "*fp32" if n in PTR else "i32") for n in names}
    attrs = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n in PTR or n in ("counter", "R", "room", "R_plane")}
    src = ASTSource(fn=fn, signature=sig, constexprs={(names.index(k),): v for k, v in const.items()}, attrs=attrs)
    k = triton.compile(src, target=GPUTarget("cuda", 90, 32), options=dict(num_warps=warps, launch_cooperative_grid=True, **opt))
    ptx = k.asm["ptx"]
    open(f"/work/gpu/{fn.__name__}.ptx", "w").write(ptx); open(f"/work/gpu/{fn.__name__}.ttgir", "w").write(k.asm["ttgir"])
    import tempfile, os
    from triton import knobs
    with tempfile.NamedTemporaryFile(suffix=".ptx") as f:
        f.write(ptx.encode()); f.flush()
        r = subprocess.run([knobs.nvidia.ptxas.path, "-v", "--gpu-name=sm_90a", f.name, "-o", "/dev/null"], capture_output=True, text=True).stderr
    regs = re.findall(r"Used (\d+) registers", r); sp = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", r)
    print(fn.__name__, f"warps={warps} rows={rows} units={units} padded={padded} parts={parts} {opt}", "regs", regs, "spill", sp, "smem", k.metadata.shared, "mma", len(re.findall("mma.sync", ptx)), "ld.v4", len(re.findall(r"ld.global[.\w]*v4", ptx)), "ld.b32", len(re.findall(r"ld.global[.\w]*\.b32", ptx)), "ld.b16", len(re.findall(r"ld.global[.\w]*\.b16", ptx)), "bar", ptx.count("bar.sync"), "ldmatrix", ptx.count("ldmatrix"), "cvt", ptx.count("cvt.rn.bf16"), flush=True)
if __name__ == "__main__":
    for warps in (16, 8):
        for parts in (2, 3):
            for fn in (pt.forward, pt.backward):
                try: comp(fn, warps, parts=parts)
                except Exception as e: print(fn, warps, parts, type(e), str(e)[:1600])
