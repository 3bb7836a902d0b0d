"""Mixers as other people write them: mamba_ssm's, one with other names, and faulty ones."""

import math

import torch
from torch import nn
from torch.nn import functional


def scan(x, dt, A, B, C, D):
    """The recurrence by definition; x and dt (b, l, e), B and C (b, l, n)."""
    h = x.new_zeros(x.shape[0], x.shape[2], A.shape[1])
    rows = []
    for t in range(x.shape[1]):
        step = dt[:, t, :, None]
        h = torch.exp(step * A) * h + step * x[:, t, :, None] * B[:, t, None]
        rows.append((h * C[:, t, None]).sum(-1) + D * x[:, t])
    return torch.stack(rows, 1)


class SimpleMamba(nn.Module):
    """What `mamba_ssm.modules.mamba_simple.Mamba` holds and computes, in plain torch.

    Source: mamba_ssm 2.2, modules/mamba_simple.py, its path without fused kernels.
    """

    def __init__(self, d_model, d_state=16, d_conv=4, expand=2, dt_rank="auto", layer_idx=None):
        super().__init__()
        self.d_model, self.d_state, self.d_conv, self.expand = d_model, d_state, d_conv, expand
        self.d_inner = int(self.expand * self.d_model)
        self.dt_rank = math.ceil(self.d_model / 16) if dt_rank == "auto" else dt_rank
        self.use_fast_path, self.layer_idx = True, layer_idx
        self.in_proj = nn.Linear(self.d_model, self.d_inner * 2, bias=False)
        self.conv1d = nn.Conv1d(
            self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1
        )
        self.activation, self.act = "silu", nn.SiLU()
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + self.d_state * 2, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner, bias=True)
        A = torch.arange(1, self.d_state + 1, dtype=torch.float32).repeat(self.d_inner, 1)
        self.A_log = nn.Parameter(torch.log(A))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, self.d_model, bias=False)

    def forward(self, hidden_states, inference_params=None):
        """(b, l, d) to (b, l, d)."""
        x, z = self.in_proj(hidden_states).chunk(2, dim=-1)
        x = self.act(self.conv1d(x.mT)[..., : hidden_states.shape[1]]).mT
        dt, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        A = -torch.exp(self.A_log.to(x.dtype))
        y = scan(x, functional.softplus(self.dt_proj(dt)), A, B, C, self.D)
        return self.out_proj(y * functional.silu(z))


class GatedNorm(nn.Module):
    """mamba_ssm's RMSNormGated, gate first, in groups."""

    def __init__(self, width, group_size, eps=1e-5):
        super().__init__()
        self.eps, self.group_size = eps, group_size
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x, z):
        """(b, l, e), gated and normed."""
        x = (x * functional.silu(z)).unflatten(-1, (-1, self.group_size))
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x.flatten(-2) * self.weight


class SimpleMamba2(nn.Module):
    """What `mamba_ssm.modules.mamba2_simple.Mamba2Simple` holds and computes, in plain torch."""

    def __init__(self, d_model, d_state=16, headdim=4, ngroups=2, expand=2, d_conv=4):
        super().__init__()
        self.d_model, self.d_state, self.headdim, self.ngroups = d_model, d_state, headdim, ngroups
        self.d_inner = self.d_ssm = expand * d_model
        self.nheads = self.d_ssm // headdim
        rows = 2 * self.d_inner + 2 * ngroups * d_state + self.nheads
        self.in_proj = nn.Linear(d_model, rows, bias=False)
        width = self.d_ssm + 2 * ngroups * d_state
        self.conv1d = nn.Conv1d(width, width, d_conv, groups=width, padding=d_conv - 1)
        self.dt_bias = nn.Parameter(torch.rand(self.nheads))
        self.A_log = nn.Parameter(torch.rand(self.nheads))
        self.D = nn.Parameter(torch.ones(self.nheads))
        self.norm = GatedNorm(self.d_ssm, self.d_ssm // ngroups)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, u):
        """(b, l, d) to (b, l, d)."""
        rows = self.ngroups * self.d_state
        z, xBC, dt = self.in_proj(u).split(
            [self.d_inner, self.d_ssm + 2 * rows, self.nheads], dim=-1
        )
        xBC = functional.silu(self.conv1d(xBC.mT)[..., : u.shape[1]].mT)
        x, B, C = xBC.split([self.d_ssm, rows, rows], dim=-1)
        dt = functional.softplus(dt + self.dt_bias)
        heads = []
        for head in range(self.nheads):
            group = head * self.ngroups // self.nheads
            part = slice(group * self.d_state, (group + 1) * self.d_state)
            own = slice(head * self.headdim, (head + 1) * self.headdim)
            A = -self.A_log[head].exp().expand(self.headdim, self.d_state)
            step = dt[..., head, None].expand(-1, -1, self.headdim)
            heads.append(scan(x[..., own], step, A, B[..., part], C[..., part], self.D[head]))
        return self.out_proj(self.norm(torch.cat(heads, -1), z))


class OwnMixer(nn.Module):
    """A mixer with names of its own, a bias in every projection, and expansion 1."""

    def __init__(self, width, states, rank=3):
        super().__init__()
        self.n_state = states
        self.expand_in = nn.Linear(width, 2 * width)
        self.mix = nn.Conv1d(width, width, 3, groups=width, padding=2, bias=False)
        self.select = nn.Linear(width, rank + 2 * states)
        self.delta = nn.Linear(rank, width)
        self.decay = nn.Parameter(torch.rand(width, states))
        self.D = nn.Parameter(torch.ones(width))
        self.project = nn.Linear(width, width)

    def forward(self, u):
        """(b, l, d) to (b, l, d)."""
        x, z = self.expand_in(u).chunk(2, dim=-1)
        x = functional.silu(self.mix(x.mT)[..., : u.shape[1]].mT)
        selected = self.select(x)
        dt = selected[..., : -2 * self.n_state]
        B, C = selected[..., -2 * self.n_state :].chunk(2, dim=-1)
        y = scan(x, functional.softplus(self.delta(dt)), -self.decay.exp(), B, C, self.D)
        return self.project(y * functional.silu(z))


OWN = {
    "in_proj": "expand_in", "conv1d": "mix", "x_proj": "select", "dt_proj": "delta",
    "A_log": "decay", "out_proj": "project",
}  # fmt: skip


class SquaredGate(SimpleMamba):
    """Looks like Mamba, and gates in another way."""

    def forward(self, hidden_states, inference_params=None):
        """Twice the gate."""
        return 2 * super().forward(hidden_states)


class Counting(SimpleMamba):
    """Counts its states in an attribute nobody could guess."""

    def __init__(self, d_model, d_state):
        super().__init__(d_model, d_state)
        self.order, self.d_state = d_state, None

    def forward(self, hidden_states, inference_params=None):
        """As Mamba's, by ``order``."""
        self.d_state = self.order
        out = super().forward(hidden_states)
        self.d_state = None
        return out


class BothWays(nn.Module):
    """Two blocks that call their mixer on a sequence and on the reversed one; a label per step."""

    def __init__(self, build, width, blocks=2):
        super().__init__()
        self.embed = nn.Linear(2, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.mixers = nn.ModuleList(build(width) for _ in range(blocks))
        self.head = nn.Linear(width, 3)

    def forward(self, u):
        """(b, l, 2) to (b, l, 3)."""
        x = self.embed(u)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            normed = norm(x)
            x = x + mixer(normed) + mixer(normed.flip(1)).flip(1)
        return self.head(x)
