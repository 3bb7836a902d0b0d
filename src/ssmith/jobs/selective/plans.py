"""What a walk decided, as plans that can be read, edited and applied again."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from ssmith.core.plan import Plan
from ssmith.core.selective import COLUMNS, ENTRIES, BlockRecord
from ssmith.jobs.selective.config import SelectiveConfig

UNITS = (COLUMNS, ENTRIES)
"""In the order in which plans of one walk are to be applied."""


def plans_of(
    records: Sequence[BlockRecord], config: SelectiveConfig, digest: str
) -> dict[str, Plan]:
    """Return one plan per unit that was cut.

    Args:
        records: what every stage decided.
        config: what was asked for.
        digest: of the model before the walk.

    Returns:
        Plans by unit. A plan for entries fits the model as it is after the plan for columns.
    """
    found = {}
    for unit in UNITS:
        keep = {item.layer: item.keep[unit] for item in records if unit in item.keep}
        if keep:
            settings = config.as_dict()
            found[unit] = Plan(
                unit=unit,
                keep=keep,
                criterion={"name": config.method, **settings["settings"]},
                budget={"a_log": settings["a_log"], "columns": settings["columns"]},
                model_digest=digest,
                semantics="remove" if unit == COLUMNS else config.semantics,
            )
    return found


def weights_of(records: Sequence[BlockRecord]) -> dict[str, Bool[Tensor, "..."]]:
    """Return what stays of every weight that was cut by itself.

    Args:
        records: what every stage decided.

    Returns:
        Dotted name of a parameter → True = keep.
    """
    return {
        f"{item.layer}.{name}": keep
        for item in records
        for name, keep in item.keep.items()
        if name not in UNITS
    }
