import os; os.environ["TRITON_INTERPRET"]="1"
import sys; sys.path.insert(0, "/work/main")
import torch
from rhn.kernels import persistent, transition
import triton.runtime.interpreter as ti, numpy as np, triton.language as tl
def f32(h):
    return (h.data.astype(np.uint32) << 16).view(np.float32) if h.dtype.scalar == tl.bfloat16 else h.data
ti.InterpreterBuilder.create_dot = lambda self, a, b, d, p, m: ti.TensorHandle(np.matmul(f32(a), f32(b), dtype=d.data.dtype) + d.data, d.dtype.scalar)
torch.manual_seed(0)
persistent.meet = lambda *a: True
launch = persistent._launch
def check(n, L, T, B, m=5, masked=True, scale=1.0, prec="highest"):
    torch.set_float32_matmul_precision(prec)
    persistent._launch = lambda *a, **k: launch(*a, units=max(8, 1 << (n-1).bit_length()), **k)
    x = torch.randn(1, T, B, m); s0 = torch.randn(1, B, n) * .3 * scale; W = torch.randn(1, 2*n, m) * scale / m**.5; R = torch.randn(1, L, 2*n, n) / n**.5 * scale; b = torch.randn(1, L, 2*n) * scale
    mask = (torch.rand(1, 1, B, n) < .75).float() / .75 if masked else None
    args = (x, s0, W, R, b, None, mask, None)
    y, S, A = persistent.forward(*args, activation="tanh", K=1, keep=True)
    y2, S2, A2 = transition.forward(*args, activation="tanh", K=1, keep=True)
    g = torch.randn_like(y)
    needs = dict(x=True)
    named = dict(x=x, W=W, R=R, S=None, state_mask=mask, candidate_mask=None, activation="tanh")
    G = persistent.backward(g, needs, [S, A], **named); G2 = transition.backward(g, needs, [S2, A2.clone()], **named)
    err = lambda a, b: ((a - b).norm() / b.norm().clamp_min(1e-30)).item()
    print(n, L, T, B, masked, scale, prec, "y %.1e" % err(y, y2), {k: "%.1e" % err(v, G2[k]) for k, v in G.items() if v is not None}, flush=True)
check(7, 2, 4, 3); check(7, 1, 3, 1, masked=False); check(20, 3, 3, 17); check(7, 2, 4, 3, scale=1e-8); check(7,2,4,3,scale=30.); check(20, 3, 3, 4, prec="high")
