"""Zamba's mixer: Mamba's scan, by head."""

from ssmith.families.parts.stock import Engine
from ssmith.families.tabled import TableFamily
from ssmith.families.zamba.forward import zamba_forward
from ssmith.families.zamba.units import MIXERS, config, tables

ZAMBA = TableFamily(
    name="zamba",
    classes=MIXERS,
    tables=tables,
    config=config,
    engine=Engine(
        name="zamba",
        forward=zamba_forward,
        scan="selective_scan",
        ops=("causal_conv", "selective_scan", "selective_step"),
        mixers=MIXERS,
    ),
)
