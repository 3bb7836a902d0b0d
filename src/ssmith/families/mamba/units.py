"""Where the units of Mamba's mixers live."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ssmith.core.selective import STORED_A_LOG
from ssmith.core.unit import Coupling, Renorm, Slice
from ssmith.families.parts.hooks import PER_STATE
from ssmith.families.parts.stock import Mixer, kind_of

PROJECTIONS = ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj")
NORMS = ("b_layernorm", "c_layernorm")
NORMALISED = (
    "B and C are divided by their root mean square over the states: with columns removed the mean "
    "is over fewer, and what stays changes, too, which no criterion counts"
)
MIXERS = {
    "MambaMixer": Mixer(model_type="mamba", keys={"state": "state_size"}),
    "FalconMambaMixer": Mixer(model_type="falcon_mamba", keys={"state": "state_size"}),
    "JambaMambaMixer": Mixer(
        model_type="jamba", keys={"state": "mamba_d_state"}, hybrid="JambaModel"
    ),
}


def state(mixer: Any) -> Coupling:
    """Return where the states of a mixer live: one column of A_log, one row of B and of C each."""
    n = mixer.A_log.shape[1]
    rank = mixer.x_proj.weight.shape[0] - 2 * n
    rows = ["x_proj.weight"] + ["x_proj.bias"] * (mixer.x_proj.bias is not None)
    norms = {name: getattr(mixer, name) for name in NORMS if getattr(mixer, name, None) is not None}
    # A norm without a weight has nothing that could make up for silent places in its mean.
    maskable = all("weight" in norm._parameters for norm in norms.values())
    beside = [name for name in PER_STATE if isinstance(getattr(mixer, name, None), torch.Tensor)]
    slices = [Slice(parameter=name, start=rank, repeat=2, step=n, silent=0.0) for name in rows]
    slices.append(Slice(parameter="A_log", dim=1))
    slices += [Slice(parameter=f"{name}.weight") for name in norms]
    slices += [Slice(parameter=name, dim=getattr(mixer, name).ndim - 1) for name in beside]
    key = MIXERS[kind_of(mixer)].keys["state"]
    return Coupling(
        unit="state",
        grid=(n,),
        slices=tuple(slices),
        sizes={"ssm_state_size": 1, "x_proj.out_features": 2},
        config_keys={key: 1},
        renorms=tuple(Renorm(norm=name, epsilon=epsilon_of(norm)) for name, norm in norms.items())
        if maskable
        else (),
        modes=("shrink", "mask") if maskable else ("shrink",),
        notes=(NORMALISED,) if norms else (),
    )


def epsilon_of(norm: Any) -> str:
    """Return what a norm calls its epsilon."""
    return "variance_epsilon" if hasattr(norm, "variance_epsilon") else "eps"


def weight(mixer: Any, parameter: str) -> Coupling:
    """Return the numbers of one weight, each a unit of its own."""
    return Coupling(
        unit="weight",
        target=parameter,
        grid=tuple(mixer.get_parameter(parameter).shape),
        slices=(Slice(parameter=parameter, dim=None, silent=0.0),),
        modes=("mask",),
    )


def entry(mixer: Any) -> Coupling:
    """Return the entries of A_log: one state of one channel each."""
    return Coupling(
        unit="entry",
        grid=tuple(mixer.A_log.shape),
        slices=(Slice(parameter="A_log", dim=None, silent=STORED_A_LOG["memoryless"]),),
        modes=("mask",),
    )


def resize_(mixer: Any) -> None:
    """Set the sizes a mixer keeps beside its tensors to those of its tensors."""
    mixer.ssm_state_size = mixer.A_log.shape[1]
    mixer.x_proj.out_features = mixer.x_proj.weight.shape[0]
    for name in NORMS:
        norm = getattr(mixer, name, None)
        if norm is not None and "weight" in norm._buffers:
            ones = torch.ones(mixer.ssm_state_size, device=mixer.A_log.device)
            norm.weight = nn.Buffer(ones, persistent=False)
