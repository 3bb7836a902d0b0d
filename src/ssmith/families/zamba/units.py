"""Where the units of Zamba's mixer live: states that all heads share, and heads.

Rows of ``in_proj`` are input and gate of each channel, side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ssmith.core.unit import Coupling
from ssmith.families.parts.stock import Mixer
from ssmith.families.parts.tables import conv_sizes, existing, slices_of

_BY_HEAD = ("x_proj_weight", "dt_proj_weight", "dt_proj_bias", "A_log", "D")
MIXERS = {"ZambaMambaMixer": Mixer(model_type="zamba", hybrid="ZambaModel")}


def tables(mixer: Any) -> tuple[Coupling, ...]:
    """Return where the units of a mixer live."""
    h, p, n = mixer.A_log.shape
    rank = mixer.x_proj_weight.shape[1] - 2 * n
    rows = slices_of(mixer, "x_proj_weight", dim=1, start=rank, repeat=2, step=n, silent=0.0)
    state = Coupling(
        unit="state",
        grid=(n,),
        slices=(*rows, *slices_of(mixer, "A_log", dim=2)),
        sizes={"ssm_state_size": 1},
        config_keys={"mamba_d_state": 1},
    )
    own = [slices_of(mixer, name) for name in _BY_HEAD]
    head = Coupling(
        unit="head",
        grid=(h,),
        slices=(
            *(item for items in own for item in items),
            *slices_of(mixer, "in_proj", width=2 * p),
            *slices_of(mixer, "conv1d", width=p, silent=0.0),
            *slices_of(mixer, "out_proj.weight", dim=1, width=p),
        ),
        sizes=existing(
            mixer,
            {"n_mamba_heads": 1, "intermediate_size": p, "in_proj.out_features": 2 * p,
             "out_proj.in_features": p, **conv_sizes(p)},
        ),
        config_keys={"n_mamba_heads": 1, "mamba_expand": Fraction(p, mixer.hidden_size)},
    )  # fmt: skip
    return (state, head)


def config(mixer: Any) -> Mapping[str, Fraction]:
    """Return what a stock configuration says of a mixer."""
    h, p, n = mixer.A_log.shape
    return {
        "mamba_d_state": Fraction(n), "n_mamba_heads": Fraction(h),
        "mamba_expand": Fraction(h * p, mixer.hidden_size),
    }  # fmt: skip
