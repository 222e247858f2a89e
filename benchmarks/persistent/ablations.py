import sys, os, importlib.util, re
sys.path.insert(0, os.getcwd()); sys.path.insert(0, ".carry")
import torch, tune
from rhn.kernels import persistent
SRC = open("rhn/kernels/persistent_triton.py").read()
CG = ', cache_modifier=".cg"'
def sub(s, *pairs):
    for a, b in pairs:
        assert a in s, a
        s = s.replace(a, b)
    return s
loopF = "    for t in range(T):\n        for layer in range(L):\n"
V = {
 "base": lambda s: s,
 "nocg": lambda s: sub(s, (CG, "")),
 "w0": lambda s: sub(s, ("(model * R_layers + layer)", "(model * R_layers + layer * 0)")),
 "nowait": lambda s: sub(s, ("    if C > 1:\n        while (", "    if C > 100000:\n        while (")),
 "nobarrier": lambda s: sub(s, ("    if C > 1:\n        while (", "    if C > 100000:\n        while ("), ("    if C > 1:\n        tl.atomic_add", "    if C > 100000:\n        tl.atomic_add")),
 "now": lambda s: sub(s, ("            w0, w1, w2 = weights(tile, at_weight, has_weight, R_plane, PARTS)\n", ""), (loopF, "    w0, w1, w2 = weights(R, at_weight, has_weight, R_plane, PARTS)\n" + loopF),
     ("        h0, h1, h2 = weights(tile, at_weight, has_weight, R_plane, PARTS)\n", ""), ("        t0, t1, t2 = weights(tile + WIDTH * WIDTH, at_weight, has_weight, R_plane, PARTS)\n", ""),
     ("    for stage in range(T * L):\n", "    h0, h1, h2 = weights(R, at_weight, has_weight, R_plane, PARTS)\n    t0, t1, t2 = weights(R + WIDTH * WIDTH, at_weight, has_weight, R_plane, PARTS)\n    for stage in range(T * L):\n")),
 "noa": lambda s: sub(s, ("            a0, a1, a2 = read(shared, at_state, has_state, PLANE, PARTS)\n", ""), (loopF, "    a0, a1, a2 = read(room, at_state, has_state, PLANE, PARTS)\n" + loopF),
     ("        a0, a1, a2 = read(shared, at_gradient, has_gradient, PLANE, PARTS)\n", ""), ("        a0, a1, a2 = read(shared + PARTS * PLANE, at_gradient, has_gradient, PLANE, PARTS)\n", ""),
     ("    for stage in range(T * L):\n", "    a0, a1, a2 = read(room, at_gradient, has_gradient, PLANE, PARTS)\n    for stage in range(T * L):\n")),
 "trans": lambda s: sub(s, ("at_weight = k * WIDTH + (first_unit + tl.arange(0, UNITS)[None, None, :])", "at_weight = k * UNITS + (first_unit * WIDTH + tl.arange(0, UNITS)[None, None, :])")),
 "nostore": lambda s: sub(s, ("            tl.store(A + gate, h, mask=own)\n            tl.store(A + gate + n, g, mask=own)\n", "            tl.store(A + gate, h + g, mask=own & (stage < 0))\n"), ("        tl.store(D + gate, d_h, mask=own)\n        tl.store(D + gate + n, d_t, mask=own)\n", "")),
}
V["nocg-trans"] = lambda s: V["trans"](V["nocg"](s))
V["noa-now"] = lambda s: V["noa"](V["now"](s))
V["nocg-trans-nobarrier"] = lambda s: V["nobarrier"](V["trans"](V["nocg"](s)))
def module(name):
    path = f".carry/v_{name.replace('-', '_')}.py"
    open(path, "w").write(V[name](SRC))
    spec = importlib.util.spec_from_file_location("v_" + name.replace("-", "_"), path); m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)
    return m
def run(name, prec, warps=8, units=8, measure=True):
    m = module(name)
    persistent.triton_code = lambda: m
    torch.set_float32_matmul_precision(prec)
    t, mask, g = tune.case()
    calls = []
    launch = tune.launch
    persistent._launch = lambda nm, S, R, mk, **k: calls.append((nm, S, R, mk, k)) or launch(nm, S, R, mk, units=units, warps=warps, **k)
    fw, bw = tune.passes(persistent, t, mask, g)
    bw(*fw()); torch.cuda.synchronize()
    if not measure: return
    # the launch alone: parts made once
    parts = persistent._parts(torch.nn.functional.pad(t["R"].unflatten(2, (2, 830)), (0, 2, 0, 2)))
    old = persistent._parts; persistent._parts = lambda x: parts
    out = {nm: tune.ms(lambda: launch(nm, S, R, mk, units=units, warps=warps, **k), 10) for nm, S, R, mk, k in calls}
    persistent._parts = old
    print(f"{name:22s} {prec:8s} warps {warps} units {units}: " + "  ".join(f"{k} {v:.2f} ms ({v / .35:.1f} us a stage)" for k, v in out.items()), flush=True)
if __name__ == "__main__":
    if sys.argv[1] == "compile":
        run(sys.argv[2], sys.argv[3], measure=False)
    else:
        for prec in sys.argv[2:]:
            for name in V:
                try: run(name, prec)
                except Exception as e: print(name, "failed", type(e).__name__, str(e)[:200].replace("\n", " "), flush=True)
    if sys.argv[1] == "all":
        for w in (4, 16):
            for name in ("nocg-trans",):
                run(name, "medium", warps=w)
        run("nocg-trans", "medium", units=16)
