"""Seven cells of the literature as modules `forward(x, state)`, and the spectra of their time
steps.

Every analysis takes such a module: `gersgorin.spectra(MGU(3), x)`, or in the folder of this file
`gersgorin plot --module cells:MGU`. The equations below leave out biases.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from gersgorin import spectra


class MGU(nn.Module):
    """Minimal gated unit: one gate for both reset and update (Zhou et al. 2016).

    f = sigma(W_f x + R_f s)      g = tanh(W_g x + R_g (f s))      s' = (1 - f) s + f g
    """

    def __init__(self, input_size, hidden_size=16):
        super().__init__()
        self.state_size = hidden_size
        self.gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x, s):
        f = torch.sigmoid(self.gate(torch.cat((x, s), -1)))
        g = torch.tanh(self.candidate(torch.cat((x, f * s), -1)))
        return (1 - f) * s + f * g


class MinGRU(nn.Module):
    """GRU whose gate and candidate read only x (Feng et al. 2024, "Were RNNs all we needed?").

    z = sigma(W_z x)      g = W_g x      s' = (1 - z) s + z g
    """

    def __init__(self, input_size, hidden_size=16):
        super().__init__()
        self.state_size = hidden_size
        self.gate = nn.Linear(input_size, hidden_size)
        self.candidate = nn.Linear(input_size, hidden_size)

    def forward(self, x, s):
        z = torch.sigmoid(self.gate(x))
        return (1 - z) * s + z * self.candidate(x)


class SLSTM(nn.Module):
    """LSTM with an exponential input gate and a normaliser n (Beck et al. 2024, "xLSTM").

    i, f, z, o = W x + R h        c' = sigma(f) c + exp(i) tanh(z)        n' = sigma(f) n + exp(i)
    h' = sigma(o) c' / n'

    c and n are stored as multiples of exp(m), so that they cannot overflow. n = 0 means that there
    is no past.
    """

    def __init__(self, input_size, hidden_size=16):
        super().__init__()
        self.state_size = (hidden_size,) * 4
        self.gates = nn.Linear(input_size + hidden_size, 4 * hidden_size)

    def forward(self, x, state):
        h, c, n, m = state
        i, f, z, o = self.gates(torch.cat((x, h), -1)).chunk(4, -1)
        kept = torch.where(n == 0, -math.inf, F.logsigmoid(f) + m)
        m = torch.maximum(kept, i)
        c = torch.exp(kept - m) * c + torch.exp(i - m) * torch.tanh(z)
        n = torch.exp(kept - m) * n + torch.exp(i - m)
        return torch.sigmoid(o) * c / n, c, n, m


class LRU(nn.Module):
    """Linear recurrent unit: complex numbers that rotate and shrink (Orvieto et al. 2023, section
    3).

    s' = lambda s + gamma (B x)      lambda = exp(-exp(nu) + i exp(theta)), |lambda| < 1

    The state has the real and the imaginary parts of s.
    """

    def __init__(self, input_size, hidden_size=16, r_min=0.0, r_max=0.99):
        super().__init__()
        self.state_size = hidden_size, hidden_size
        self.input = nn.Linear(input_size, 2 * hidden_size, bias=False)
        squared = r_min**2 + (r_max**2 - r_min**2) * torch.rand(hidden_size)  # |lambda|^2
        self.nu = nn.Parameter(torch.log(-torch.log(squared) / 2))
        self.theta = nn.Parameter(torch.log(2 * math.pi * torch.rand(hidden_size)))
        self.gamma_log = nn.Parameter(torch.log1p(-squared) / 2)

    def forward(self, x, state):
        real, imaginary = state
        size, angle = torch.exp(-torch.exp(self.nu)), torch.exp(self.theta)
        a, b = size * torch.cos(angle), size * torch.sin(angle)
        u, v = (torch.exp(self.gamma_log) * part for part in self.input(x).chunk(2, -1))
        return a * real - b * imaginary + u, b * real + a * imaginary + v


class CoRNN(nn.Module):
    """Coupled oscillators with positions y and velocities z (Rusch and Mishra 2021, equation 3).

    z' = z + dt (tanh(W x + R_y y + R_z z) - gamma y - epsilon z)      y' = y + dt z'
    """

    def __init__(self, input_size, hidden_size=16, dt=0.042, gamma=2.7, epsilon=4.7):
        super().__init__()
        self.state_size = hidden_size, hidden_size
        self.force = nn.Linear(input_size + 2 * hidden_size, hidden_size)
        self.dt, self.gamma, self.epsilon = dt, gamma, epsilon

    def forward(self, x, state):
        y, z = state
        force = torch.tanh(self.force(torch.cat((x, y, z), -1)))
        z = z + self.dt * (force - self.gamma * y - self.epsilon * z)
        return y + self.dt * z, z


class IndRNN(nn.Module):
    """Units that have no recurrent weights except one to themselves (Li et al. 2018, equation 2).

    s' = relu(W x + u * s)
    """

    def __init__(self, input_size, hidden_size=16):
        super().__init__()
        self.state_size = hidden_size
        self.input = nn.Linear(input_size, hidden_size)
        self.u = nn.Parameter(torch.rand(hidden_size))

    def forward(self, x, s):
        return torch.relu(self.input(x) + self.u * s)


class AntisymmetricRNN(nn.Module):
    """Small steps of a differential equation that neither grows nor decays (Chang et al. 2019).

    s' = s + step_size tanh(V x + (M - diffusion I) s)      M' = -M
    """

    def __init__(self, input_size, hidden_size=16, step_size=0.1, diffusion=0.01):
        super().__init__()
        self.state_size = hidden_size
        self.input = nn.Linear(input_size, hidden_size)
        self.lower = nn.Parameter(torch.randn(hidden_size, hidden_size) / math.sqrt(hidden_size))
        self.step_size, self.diffusion = step_size, diffusion

    def forward(self, x, s):
        M = self.lower.tril(-1) - self.lower.tril(-1).T
        return s + self.step_size * torch.tanh(self.input(x) + s @ M.T - self.diffusion * s)


if __name__ == "__main__":
    torch.manual_seed(0)
    x = torch.randn(30, 3)
    print("Spectral radius of a step at the start, mean over 30 steps of white noise:")
    for cell in (MGU, MinGRU, SLSTM, LRU, CoRNN, IndRNN, AntisymmetricRNN):
        found = spectra(cell(3), x)
        radius, size = found.spectral_radius.mean(), found.centers.shape[1]
        print(f"{cell.__name__:<18}{radius:.3f}   state of {size} numbers")
