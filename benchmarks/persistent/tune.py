import sys, time, os, json
sys.path.insert(0, os.getcwd())
import torch
from rhn.kernels import persistent, transition
T, B, n, L = 35, 20, 830, 10
dev = "cuda"
def case(K=1, n=n, L=L, T=T, B=B, m=None):
    torch.manual_seed(0)
    m = m or n
    r = lambda *s: torch.randn(*s, device=dev)
    t = dict(x=r(1, T, B, m), s0=r(K, B, n) * .3, W=r(K, 2 * n, m) / m**.5, R=r(K, L, 2 * n, n) / n**.5, b=torch.cat([r(K, L, n) * .1, r(K, L, n) * .1 - 2], -1))
    mask = (torch.rand(K, 1, B, n, device=dev) < .75).float() / .75
    return t, mask, r(K, T, B, n)
def passes(code, t, mask, g):
    K = len(t["R"])
    def fw():
        return code.forward(t["x"], t["s0"], t["W"], t["R"], t["b"], None, mask, None, activation="tanh", K=K, keep=True)
    def bw(y, S, A):
        return code.backward(g, dict(x=True), [S, A], x=t["x"], W=t["W"], R=t["R"], S=None, state_mask=mask, candidate_mask=None, activation="tanh")
    return fw, bw
def graphed(f):
    f(); torch.cuda.synchronize()
    side = torch.cuda.Stream(); side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side): f()
    torch.cuda.current_stream().wait_stream(side)
    gr = torch.cuda.CUDAGraph()
    with torch.cuda.graph(gr): f()
    return gr
def ms(f, k=30):
    gr = graphed(f)
    for _ in range(3): gr.replay()
    a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    ts = []
    for _ in range(5):
        a.record()
        for _ in range(k // 5): gr.replay()
        b.record(); torch.cuda.synchronize(); ts.append(a.elapsed_time(b) / (k // 5))
    return sorted(ts)[2]
err = lambda a, b: ((a.double() - b.double()).norm() / b.double().norm()).item()
launch = persistent._launch
def one(warps, units, prec, quick=False, **kw):
    persistent.UNITS, persistent.WARPS = units, warps
    persistent._launch = lambda *a, **k: launch(*a, units=units, warps=warps, **k)
    torch.set_float32_matmul_precision(prec)
    t, mask, g = case(**kw)
    fw, bw = passes(persistent, t, mask, g)
    t0 = time.time(); y, S, A = fw(); G = bw(y, S, A); torch.cuda.synchronize(); t0 = time.time() - t0
    if quick: return
    torch.set_float32_matmul_precision("highest")
    fw2, bw2 = passes(transition, t, mask, g)
    y2, S2, A2 = fw2(); G2 = bw2(y2, S2, A2.clone())
    torch.set_float32_matmul_precision(prec)
    # kernels alone
    state = {}
    def kf(): return persistent.forward(t["x"], t["s0"], t["W"], t["R"], t["b"], None, mask, None, activation="tanh", K=len(t["R"]), keep=True)
    calls = []
    persistent._launch = lambda name, S, R, m, **k: calls.append((name, S, R, m, k)) or launch(name, S, R, m, units=units, warps=warps, **k)
    out = fw(); bw(*out)
    persistent._launch = lambda *a, **k: launch(*a, units=units, warps=warps, **k)
    parts = {}
    for name, S_, R_, m_, k_ in calls:
        parts[name] = ms(lambda: launch(name, S_, R_, m_, units=units, warps=warps, **k_))
    pack = ms(lambda: persistent._parts(torch.nn.functional.pad(t["R"].unflatten(2, (2, t["R"].shape[-1])), (0, 2, 0, 2))))
    f_all, all_ = ms(fw), ms(lambda: bw(*fw()))
    print(f"{kw} warps {warps} units {units} {prec}: compile {t0:.0f}s err y {err(y, y2):.1e} R {err(G['R'], G2['R']):.1e} s0 {err(G['s0'], G2['s0']):.1e} b {err(G['b'], G2['b']):.1e} | launch+pack fw {parts['forward']:.2f} bw {parts['backward']:.2f} pack {pack:.2f} | forward {f_all:.2f} all {all_:.2f} ms", flush=True)
def fused(**kw):
    torch.set_float32_matmul_precision("highest")
    t, mask, g = case(**kw); fw, bw = passes(transition, t, mask, g)
    print(f"{kw} fused: forward {ms(fw):.2f} all {ms(lambda: bw(*fw())):.2f} ms", flush=True)
def training(name="persistent"):
    from benchmarks.language import ours
    from rhn.presets import preset
    run = ours(preset("ptb-sota"), 10_000, "cuda")
    for _ in range(3): run()
    torch.cuda.synchronize(); t = time.perf_counter()
    for _ in range(15): run()
    torch.cuda.synchronize(); print(f"training step {name} {torch.get_float32_matmul_precision()}: {(time.perf_counter() - t) / 45 * 1e3:.2f} ms", flush=True)
    return run
def profile():
    run = training()
    from torch.profiler import profile as P, ProfilerActivity as A
    with P(activities=[A.CUDA]) as p: run(); torch.cuda.synchronize()
    rows = sorted(p.key_averages(), key=lambda e: -e.self_device_time_total)[:22]
    for e in rows: print(f"   {e.self_device_time_total / 3e3:8.3f} ms a step, {e.count / 3:6.1f} calls  {e.key[:90]}")
def lstm():
    from benchmarks.language import lstm
    from rhn.presets import preset
    run = lstm(preset("ptb-sota"), 10_000, "cuda")
    for _ in range(3): run()
    torch.cuda.synchronize(); t = time.perf_counter()
    for _ in range(10): run()
    torch.cuda.synchronize(); print(f"nn.LSTM step: {(time.perf_counter() - t) / 30 * 1e3:.2f} ms", flush=True)
if __name__ == "__main__":
    what = sys.argv[1]
    if what == "one": one(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], quick="quick" in sys.argv)
    else: globals()[what](*sys.argv[2:])
