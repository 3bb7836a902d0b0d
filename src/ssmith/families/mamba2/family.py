"""Mamba-2's mixers, transformers' and mamba_ssm's, and those of hybrids that share them."""

from ssmith.families.mamba2.forward import mamba2_forward
from ssmith.families.mamba2.units import MIXERS, config, layout_of, tables
from ssmith.families.parts.stock import Engine
from ssmith.families.tabled import TableFamily

MAMBA2 = TableFamily(
    name="mamba2",
    classes=MIXERS,
    tables=tables,
    config=config,
    like=lambda module: layout_of(module) is not None,
    engine=Engine(
        name="mamba2",
        forward=mamba2_forward,
        scan="ssd",
        ops=("causal_conv", "ssd"),
        mixers=MIXERS,
    ),
)
