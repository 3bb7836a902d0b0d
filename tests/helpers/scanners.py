"""Networks of other makes: images scanned in two directions, a U-Net of S5 layers."""

from importlib import import_module

import torch
from torch import nn

from ssmith.families import LTIOptions, S5Layer


def mixer(width=12, states=4, seed=0):
    """A mixer of transformers, outside of any model of theirs."""
    modeling = import_module("transformers.models.mamba.modeling_mamba")
    config = import_module("transformers").MambaConfig(hidden_size=width, state_size=states)
    torch.manual_seed(seed)
    made = modeling.MambaMixer(config, layer_idx=0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1 and parameter is not made.A_log:
                parameter.normal_(0.0, 0.2)
    return made


class Scan(nn.Module):
    """A block that scans patches there and back, by one mixer or by two."""

    def __init__(self, mixers, seed):
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.mixers = nn.ModuleList(mixer(seed=seed + number) for number in range(mixers))

    def forward(self, x):
        u = self.norm(x)
        return x + self.mixers[0](u) + self.mixers[-1](u.flip(1)).flip(1)


class Vision(nn.Module):
    """Patches of an image, blocks that scan them, classes."""

    def __init__(self, mixers=1, depth=2):
        super().__init__()
        torch.manual_seed(7)
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.stages = nn.ModuleList(Scan(mixers, 10 * number) for number in range(depth))
        self.head = nn.Linear(12, 5)

    def forward(self, pixels, mask=None):
        x = self.patches(pixels).flatten(2).mT
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean(1))


def images(count=6, size=12, seed=0):
    """Images for `Vision`."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


class UNet(nn.Module):
    """S5 layers at two resolutions, the finer ones around the coarser one."""

    def __init__(self, states=8):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        options = LTIOptions(bidirectional=True)
        self.down = S5Layer(4, states, options=options, generator=draw)
        self.middle = S5Layer(4, states, options=options, generator=draw)
        self.up = S5Layer(4, states, options=options, generator=draw)

    def forward(self, x):
        fine = x + torch.tanh(self.down(x))
        coarse = fine[:, ::2] + torch.tanh(self.middle(fine[:, ::2]))
        return fine + self.up(fine + coarse.repeat_interleave(2, dim=1)[:, : fine.shape[1]])
