"""Drawing the four splits: stratified, seeded, duplicates never apart."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import torch

from ssmith.core.errors import DataError
from ssmith.core.seeds import generator
from ssmith.core.sequences import SPLITS
from ssmith.data.digest import sequence_keys
from ssmith.data.pool import Pool

FRACTIONS: dict[str, float] = {"train": 0.5, "validation": 0.1, "selection": 0.2, "test": 0.2}


def drop_duplicates(pool: Pool) -> Pool:
    """Keep the first of every set of equal inputs, and say in the details how many left.

    Two equal inputs with different targets count as duplicates too: no model could get
    both right.
    """
    first: dict[bytes, int] = {}
    for i, key in enumerate(sequence_keys(pool.sequences())):
        first.setdefault(key, i)
    dropped = len(pool) - len(first)
    details = {**pool.details, "duplicates_dropped": dropped}
    if not dropped:
        return replace(pool, details=details)
    return replace(pool.keep(torch.tensor(sorted(first.values()))), details=details)


def draw_splits(pool: Pool, *, seed: int) -> Pool:
    """Assign every sequence to a split by a seeded draw, stratified by class.

    Equal inputs form one unit of the draw, so they land in the same split. Real targets have no
    strata: their draw is plain. An earlier assignment is replaced. Raises `DataError` if a class
    has fewer different sequences than there are splits.
    """
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for unit in _units(pool):
        strata[pool.classes[int(pool.y[unit[0]])] if pool.task == "classification" else ""].append(
            unit
        )
    _require_enough(pool, strata)
    split_of = [""] * len(pool)
    for stratum, units in strata.items():
        order = torch.randperm(len(units), generator=generator(seed, "split", stratum)).tolist()
        quota = quotas(len(units))
        names = [name for name, count in quota.items() for _ in range(count)]
        for position, name in zip(order, names, strict=True):
            for i in units[position]:
                split_of[i] = name
    details = {
        **pool.details,
        "split": "stratified draw by class" if pool.classes else "plain draw",
        "split_seed": seed,
        "split_fractions": dict(FRACTIONS),
    }
    return replace(pool, split_of=tuple(split_of), details=details)


def quotas(count: int) -> dict[str, int]:
    """Share ``count`` units over the splits by the largest remainder, at least one each."""
    free = count - len(SPLITS)
    exact = {name: max(FRACTIONS[name] * count - 1, 0.0) for name in SPLITS}
    scale = free / sum(exact.values()) if free else 0.0
    share = {name: 1 + int(exact[name] * scale) for name in SPLITS}
    by_remainder = sorted(SPLITS, key=lambda name: share[name] - 1 - exact[name] * scale)
    for name in by_remainder[: count - sum(share.values())]:
        share[name] += 1
    return share


def _units(pool: Pool) -> list[list[int]]:
    """Return groups of equal inputs, in order of first appearance."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, key in enumerate(sequence_keys(pool.sequences())):
        groups[key].append(i)
    return list(groups.values())


def _require_enough(pool: Pool, strata: dict[str, list[list[int]]]) -> None:
    poor = {name: len(units) for name, units in strata.items() if len(units) < len(SPLITS)}
    if not poor:
        return
    what = f"{pool.name} has too few different sequences to split"
    if pool.classes:
        listed = ", ".join(f"{name!r}: {count}" for name, count in list(poor.items())[:5])
        what = f"{len(poor)} of {len(pool.classes)} classes of {pool.name} are too small: {listed}"
    raise DataError(
        what,
        allowed=f"at least {len(SPLITS)} different sequences of every class, one for each split",
        next_step="add sequences, merge or drop the class, name the splits in the file, "
        "or ask for regression if the target is a quantity",
    )
