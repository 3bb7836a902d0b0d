"""Mamba-2's mixers, and those of Bamba, Falcon-H1, Granite-4, Nemotron-H and Zamba-2."""

from ssmith.families.mamba2.forward import mamba2_forward
from ssmith.families.mamba2.units import MIXERS, config, tables
from ssmith.families.parts.stock import Engine
from ssmith.families.tabled import TableFamily

MAMBA2 = TableFamily(
    name="mamba2",
    kind="ssm",
    classes=MIXERS,
    tables=tables,
    config=config,
    engine=Engine(
        name="mamba2",
        forward=mamba2_forward,
        scan="ssd",
        ops=("causal_conv", "ssd"),
        mixers=MIXERS,
    ),
)
