"""Where the units of Mamba-2's mixers live: states of groups, heads, channels of heads.

Rows of ``in_proj`` are z (e), x (e), B (g·n), C (g·n), Δ (h); channels of ``conv1d`` are x, B, C.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ssmith.core.unit import Coupling, Renorm, Slice
from ssmith.families.layout import Named, Naming, registered
from ssmith.families.parts.hooks import MAPS, PER_STATE
from ssmith.families.parts.stock import Mixer, is_stock, kind_of
from ssmith.families.parts.tables import at, conv_sizes, epsilon_of, existing, slices_of

_BAMBA = {
    "state": "mamba_d_state", "head": "mamba_n_heads", "head_dim": "mamba_d_head",
    "expand": "mamba_expand",
}  # fmt: skip
MIXERS = {
    "Mamba2Mixer": Mixer(
        model_type="mamba2",
        keys={"state": "state_size", "head": "num_heads", "head_dim": "head_dim",
              "expand": "expand"},
    ),
    "BambaMixer": Mixer(model_type="bamba", keys=_BAMBA, hybrid="BambaModel"),
    "FalconH1Mixer": Mixer(
        model_type="falcon_h1",
        keys={name: key for name, key in _BAMBA.items() if name != "expand"}
        | {"inner": "mamba_d_ssm"},
        hybrid="FalconH1Model",
    ),
    "GraniteMoeHybridMambaLayer": Mixer(
        model_type="granitemoehybrid", keys=_BAMBA, hybrid="GraniteMoeHybridModel"
    ),
    "NemotronHMamba2Mixer": Mixer(
        model_type="nemotron_h",
        keys={"state": "ssm_state_size", "head": "mamba_num_heads", "head_dim": "mamba_head_dim"},
        hybrid="NemotronHModel",
    ),
    "Zamba2MambaMixer": Mixer(
        model_type="zamba2",
        keys={"state": "mamba_d_state", "head": "n_mamba_heads", "head_dim": "mamba_headdim",
              "expand": "mamba_expand"},
        hybrid="Zamba2Model",
    ),
}  # fmt: skip


_MAMBA_SSM = Naming(
    family="mamba2",
    names={
        "num_heads": "nheads", "head_dim": "headdim", "n_groups": "ngroups",
        "ssm_state_size": "d_state", "intermediate_size": "d_ssm",
    },
    sizes={"channel": ("d_inner",)},
)  # fmt: skip
"""What the package mamba_ssm calls things."""


def layout_of(module: Any) -> Naming | None:
    """Return what a class not of transformers calls things; None if it is no such layer."""
    known = registered(module)
    if known is not None:
        return known if known.family == "mamba2" else None
    names = (
        "in_proj.weight",
        "conv1d.weight",
        "out_proj.weight",
        "A_log",
        *_MAMBA_SSM.names.values(),
    )
    return _MAMBA_SSM if all(at(module, name) is not None for name in names) else None


def tables(module: Any) -> tuple[Coupling, ...]:
    """Return where the units of a mixer live."""
    layout = None if is_stock(module) else layout_of(module)
    mixer = module if layout is None else Named(module, layout)
    rows = 2 * (mixer.intermediate_size + mixer.n_groups * mixer.ssm_state_size) + mixer.num_heads
    if mixer.in_proj.weight.shape[0] != rows:
        return ()
    found = (_state(mixer), _head(mixer), _head_dim(mixer))
    return found if layout is None else tuple(layout.renamed(table) for table in found)


def config(mixer: Any) -> Mapping[str, Fraction]:
    """Return what a stock configuration says of a mixer."""
    if not is_stock(mixer):
        return {}
    inner = mixer.num_heads * mixer.head_dim
    values = {
        "state": Fraction(mixer.ssm_state_size), "head": Fraction(mixer.num_heads),
        "head_dim": Fraction(mixer.head_dim), "inner": Fraction(inner),
        "expand": Fraction(inner, _width(mixer)),
    }  # fmt: skip
    return {key: values[unit] for unit, key in MIXERS[kind_of(mixer)].keys.items()}


def _width(mixer: Any) -> int:
    width: int = mixer.in_proj.weight.shape[1]
    return width


def _state(mixer: Any) -> Coupling:
    """One state of one group: its rows of B and of C, before and in the convolution."""
    g, n, e = mixer.n_groups, mixer.ssm_state_size, mixer.intermediate_size
    maps = [item for name in MAPS for item in slices_of(mixer, name)]
    if maps:
        # What in_proj gives stays; the states are what the maps make of it.
        states: int = getattr(mixer, MAPS[0]).shape[0]
        grid = (g, states // g)
        return Coupling(unit="state", grid=grid, slices=tuple(maps), per_block=g, modes=("shrink",))
    rows = {"start": 2 * e, "repeat": 2, "step": g * n}
    return Coupling(
        unit="state",
        grid=(g, n),
        slices=(
            *slices_of(mixer, "in_proj", **rows),
            *slices_of(mixer, "mup_vector", dim=2, **rows),
            *slices_of(mixer, "conv1d", start=e, repeat=2, step=g * n, silent=0.0),
        ),
        sizes=existing(
            mixer,
            {"ssm_state_size": Fraction(1, g), "conv_dim": 2, "groups_time_state_size": 1,
             "in_proj.out_features": 2, **conv_sizes(2)},
        ),
        config_keys=_keys(mixer, {"state": Fraction(1, g)}),
        per_block=g,
    )  # fmt: skip


def _head(mixer: Any) -> Coupling:
    """One head: its channels, its step size, decay and skip weight."""
    g, n, e, p = mixer.n_groups, mixer.ssm_state_size, mixer.intermediate_size, mixer.head_dim
    dt = {"start": 2 * e + 2 * g * n}
    own = [slices_of(mixer, name) for name in ("dt_bias", "A_log", "D")]
    return Coupling(
        unit="head",
        grid=(mixer.num_heads,),
        slices=(
            *slices_of(mixer, "in_proj", width=p, repeat=2, step=e),
            *slices_of(mixer, "in_proj", **dt),
            *slices_of(mixer, "mup_vector", dim=2, width=p, repeat=2, step=e),
            *slices_of(mixer, "mup_vector", dim=2, **dt),
            *(item for items in own for item in items),
            *(item for name in PER_STATE for item in slices_of(mixer, name)),
            *_inner(mixer, width=p),
        ),
        sizes=existing(
            mixer,
            {"num_heads": 1, "intermediate_size": p, "conv_dim": p,
             "in_proj.out_features": 2 * p + 1, "out_proj.in_features": p,
             "norm.group_size": Fraction(p, g), **conv_sizes(p)},
        ),
        config_keys=_keys(
            mixer, {"head": 1, "inner": p, "expand": Fraction(p, _width(mixer))}
        ),
        per_block=g,
        output="out_proj",
        renorms=_renorms(mixer),
    )  # fmt: skip


def _head_dim(mixer: Any) -> Coupling:
    """One channel of one head; as many go from each head, which ones is each head's own matter."""
    g, e, h = mixer.n_groups, mixer.intermediate_size, mixer.num_heads
    return Coupling(
        unit="head_dim",
        grid=(h, mixer.head_dim),
        slices=(
            *slices_of(mixer, "in_proj", repeat=2, step=e),
            *slices_of(mixer, "mup_vector", dim=2, repeat=2, step=e),
            *_inner(mixer),
        ),
        sizes=existing(
            mixer,
            {"head_dim": Fraction(1, h), "intermediate_size": 1, "conv_dim": 1,
             "in_proj.out_features": 2, "out_proj.in_features": 1,
             "norm.group_size": Fraction(1, g), **conv_sizes(1)},
        ),
        config_keys=_keys(
            mixer,
            {"head_dim": Fraction(1, h), "inner": 1, "expand": Fraction(1, _width(mixer))},
        ),
        per_block=h,
        output="out_proj",
        renorms=_renorms(mixer),
    )  # fmt: skip


def _inner(mixer: Any, width: int = 1) -> tuple[Slice, ...]:
    """Where channels live from the convolution on; silent there, they are zero ever after."""
    return (
        *slices_of(mixer, "conv1d", width=width, silent=0.0),
        *slices_of(mixer, "norm.weight", width=width),
        *slices_of(mixer, "out_proj.weight", dim=1, width=width),
        *slices_of(mixer, "output_offset", width=width),
    )


def _renorms(mixer: Any) -> tuple[Renorm, ...]:
    norm = getattr(mixer, "norm", None)
    return (Renorm(norm="norm", epsilon=epsilon_of(norm)),) if hasattr(norm, "weight") else ()


def _keys(mixer: Any, falls: Mapping[str, int | Fraction]) -> dict[str, int | Fraction]:
    if isinstance(mixer, Named):
        return {}
    keys = MIXERS[kind_of(mixer)].keys
    return {keys[unit]: amount for unit, amount in falls.items() if unit in keys}


def resize_(mixer: Any) -> None:
    """Set the sizes a mixer keeps beside its tensors to those of its tensors."""
    e, g = mixer.out_proj.weight.shape[1], mixer.n_groups
    rows, channels = mixer.in_proj.weight.shape[0], mixer.conv1d.weight.shape[0]
    mixer.num_heads = mixer.A_log.shape[0]
    mixer.head_dim, mixer.intermediate_size = e // mixer.num_heads, e
    mixer.ssm_state_size = (channels - e) // (2 * g)
    conv = dict.fromkeys(("conv_dim", *conv_sizes(1)), channels)
    for name, size in {
        "groups_time_state_size": g * mixer.ssm_state_size, "in_proj.out_features": rows,
        "out_proj.in_features": e, "norm.group_size": e // g, **conv,
    }.items():  # fmt: skip
        if isinstance(at(mixer, name), int):
            owner, _, last = name.rpartition(".")
            setattr(at(mixer, owner) if owner else mixer, last, size)
