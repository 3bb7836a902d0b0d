"""Attention of hybrids: where its groups of heads live."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ssmith.core.unit import Coupling
from ssmith.families.parts.tables import existing, slices_of
from ssmith.families.tabled import TableFamily

_CLASSES = (
    "BambaAttention", "FalconH1Attention", "GraniteMoeHybridAttention", "JambaAttention",
    "NemotronHAttention",
)  # fmt: skip


def tables(layer: Any) -> tuple[Coupling, ...]:
    """Return where key-value heads live, each with the query heads that read it."""
    heads, queries, width = _sizes(layer)
    sizes: dict[str, int | Fraction] = {
        "q_proj.out_features": queries * width, "k_proj.out_features": width,
        "v_proj.out_features": width, "o_proj.in_features": queries * width,
    }  # fmt: skip
    return (
        Coupling(
            unit="kv_group",
            grid=(heads,),
            slices=(
                *slices_of(layer, "q_proj", width=queries * width),
                *slices_of(layer, "k_proj", width=width),
                *slices_of(layer, "v_proj", width=width),
                *slices_of(layer, "o_proj.weight", dim=1, width=queries * width, silent=0.0),
            ),
            sizes=existing(layer, sizes),
            output="o_proj",
            config_keys={"num_key_value_heads": 1, "num_attention_heads": queries, "head_dim": 0},
        ),
    )


def config(layer: Any) -> Mapping[str, Fraction]:
    """Return what a stock configuration says of attention, the width of its heads included."""
    heads, queries, width = _sizes(layer)
    return {
        "num_key_value_heads": Fraction(heads), "num_attention_heads": Fraction(heads * queries),
        "head_dim": Fraction(width),
    }  # fmt: skip


def _sizes(layer: Any) -> tuple[int, int, int]:
    """Return key-value heads, query heads of each, and their width."""
    width: int = layer.head_dim
    heads = layer.k_proj.weight.shape[0] // width
    return heads, layer.q_proj.weight.shape[0] // width // heads, width


ATTENTION = TableFamily(
    name="attention", kind="attention", classes=_CLASSES, tables=tables, config=config
)
