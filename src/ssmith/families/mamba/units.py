"""Where the units of Mamba's mixers live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.selective import STORED_A_LOG
from ssmith.core.unit import Coupling, Renorm, Slice
from ssmith.families.layout import Named, Naming, registered
from ssmith.families.parts.hooks import PER_STATE
from ssmith.families.parts.stock import Mixer, is_stock, kind_of
from ssmith.families.parts.tables import at, conv_sizes, epsilon_of, existing, slices_of

PROJECTIONS = ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj")
NORMS = ("b_layernorm", "c_layernorm")
_CHANNELS = ("intermediate_size", "d_inner", "d_ssm")
_STATES = ("ssm_state_size", "state_size", "d_state", "n_state", "n_states", "num_states")
NORMALISED = (
    "B and C are divided by their root mean square over the states: with columns removed the mean "
    "is over fewer, and what stays changes, too, which no criterion counts"
)
_KEYS = {"state": "state_size", "channel": "intermediate_size", "expand": "expand"}
MIXERS = {
    "MambaMixer": Mixer(model_type="mamba", keys=_KEYS),
    "FalconMambaMixer": Mixer(model_type="falcon_mamba", keys=_KEYS),
    "JambaMambaMixer": Mixer(
        model_type="jamba",
        keys={"state": "mamba_d_state", "expand": "mamba_expand"},
        hybrid="JambaModel",
    ),
}


def layout_of(mixer: nn.Module) -> Naming:
    """Return what a mixer's class calls its parts and counts: as registered, or as found."""
    known = registered(mixer)
    # mambapy writes the norms of B and C with capitals.
    names = {norm: norm.capitalize() for norm in NORMS if hasattr(mixer, norm.capitalize())}
    names |= {} if known is None else known.names
    return Naming(family="mamba", names=names, sizes={} if known is None else dict(known.sizes))


def _counts(mixer: nn.Module, layout: Naming, unit: str) -> tuple[str, ...]:
    """Return where a mixer keeps how many states or channels it has."""
    said = layout.sizes.get(unit)
    if said is not None:
        return tuple(said)
    dim, known = {"state": (1, _STATES), "channel": (0, _CHANNELS)}[unit]
    count = at(mixer, layout.name("A_log")).shape[dim]
    places = [*known, *(f"config.{name}" for name in known)]
    return tuple(place for place in places if at(mixer, place) == count)


def named(mixer: nn.Module) -> Any:
    """Return a mixer whose parts answer to our names."""
    layout = layout_of(mixer)
    return Named(mixer, layout) if layout.names else mixer


def looks_like_mamba(module: nn.Module) -> bool:
    """Return whether a module has the parts of a Mamba mixer, under our names."""
    A_log, D = (getattr(module, name, None) for name in ("A_log", "D"))
    if not isinstance(A_log, Tensor) or not isinstance(D, Tensor) or A_log.ndim != 2:
        return False
    return all(
        isinstance(getattr(getattr(module, name, None), "weight", None), Tensor)
        for name in PROJECTIONS
    )


def state(module: nn.Module) -> Coupling:
    """Return where the states of a mixer live: one column of A_log, one row of B and of C each."""
    layout, mixer = layout_of(module), named(module)
    n, x_proj = mixer.A_log.shape[1], layout.name("x_proj")
    rank = mixer.x_proj.weight.shape[0] - 2 * n
    rows = [f"{x_proj}.{name}" for name in ("weight", "bias") if at(mixer.x_proj, name) is not None]
    norms = {
        layout.name(name): norm
        for name in NORMS
        if (norm := getattr(mixer, name, None)) is not None
    }
    # A norm without a weight has nothing that could make up for silent places in its mean.
    maskable = all("weight" in norm._parameters for norm in norms.values())
    weighted = [name for name, norm in norms.items() if hasattr(norm, "weight")]
    beside = [name for name in PER_STATE if isinstance(getattr(mixer, name, None), Tensor)]
    slices = [Slice(parameter=name, start=rank, repeat=2, step=n, silent=0.0) for name in rows]
    slices.append(Slice(parameter=layout.name("A_log"), dim=1))
    slices += [Slice(parameter=f"{name}.weight") for name in weighted]
    slices += [Slice(parameter=name, dim=getattr(mixer, name).ndim - 1) for name in beside]
    sizes = dict.fromkeys(_counts(module, layout, "state"), 1)
    sizes |= {f"{x_proj}.out_features": 2} if hasattr(mixer.x_proj, "out_features") else {}
    renorms = tuple(Renorm(norm=name, epsilon=epsilon_of(norm)) for name, norm in norms.items())
    return Coupling(
        unit="state",
        grid=(n,),
        slices=tuple(slices),
        sizes=sizes,
        config_keys=_keys(module, {"state": 1}),
        renorms=renorms if maskable else (),
        modes=("shrink", "mask") if maskable else ("shrink",),
        notes=(NORMALISED,) if norms else (),
    )


def channel(module: nn.Module) -> Coupling:
    """Return where the inner channels of a mixer live, from input and gate to ``out_proj``."""
    layout, mixer = layout_of(module), named(module)
    e, width = mixer.A_log.shape[0], mixer.in_proj.weight.shape[1]
    beside = [name for name in PER_STATE if isinstance(getattr(mixer, name, None), Tensor)]
    parts = [
        slices_of(mixer, "in_proj", repeat=2, step=e),
        slices_of(mixer, "conv1d", silent=0.0),
        slices_of(mixer, "x_proj.weight", dim=1),
        *(slices_of(mixer, name) for name in ("dt_proj", "A_log", "D", "output_offset")),
        *(slices_of(mixer, name, dim=getattr(mixer, name).ndim - 2) for name in beside),
        slices_of(mixer, "out_proj.weight", dim=1),
    ]
    sizes = {
        "in_proj.out_features": 2, "x_proj.in_features": 1, "dt_proj.out_features": 1,
        "out_proj.in_features": 1, **conv_sizes(1),
    }  # fmt: skip
    table = Coupling(
        unit="channel",
        grid=(e,),
        slices=tuple(item for items in parts for item in items),
        sizes=existing(mixer, sizes),
        config_keys=_keys(module, {"channel": 1, "expand": Fraction(1, width)}),
    )
    named_sizes = dict.fromkeys(_counts(module, layout, "channel"), 1)
    renamed = layout.renamed(table)
    return replace(renamed, sizes={**renamed.sizes, **named_sizes})


def config(module: Any) -> dict[str, Fraction]:
    """Return what a stock configuration says of a mixer; nothing of one that is not stock."""
    if not is_known(module):
        return {}
    e, n = module.A_log.shape
    expand = Fraction(e, module.in_proj.weight.shape[1])
    values = {"state": Fraction(n), "channel": Fraction(e), "expand": expand}
    return {key: values[unit] for unit, key in MIXERS[kind_of(module)].keys.items()}


def _keys(module: nn.Module, falls: Mapping[str, int | Fraction]) -> dict[str, int | Fraction]:
    keys = MIXERS[kind_of(module)].keys if is_known(module) else {}
    return {keys[unit]: amount for unit, amount in falls.items() if unit in keys}


def is_known(module: nn.Module) -> bool:
    """Return whether a module is a mixer of transformers that the engine runs as Mamba."""
    return kind_of(module) in MIXERS and is_stock(module)


def weights(module: nn.Module) -> tuple[Coupling, ...]:
    """Return the numbers of each projection's weight, each a unit of its own."""
    layout = layout_of(module)
    names = [f"{layout.name(projection)}.weight" for projection in PROJECTIONS]
    return tuple(
        Coupling(
            unit="weight",
            target=name,
            grid=tuple(module.get_parameter(name).shape),
            slices=(Slice(parameter=name, dim=None, silent=0.0),),
            modes=("mask",),
        )
        for name in names
    )


def entry(module: nn.Module) -> Coupling:
    """Return the entries of A_log: one state of one channel each."""
    name = layout_of(module).name("A_log")
    return Coupling(
        unit="entry",
        grid=tuple(module.get_parameter(name).shape),
        slices=(Slice(parameter=name, dim=None, silent=STORED_A_LOG["memoryless"]),),
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
