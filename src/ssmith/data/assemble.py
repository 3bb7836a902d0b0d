"""From a pool with assigned splits to the data set that travels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch

from ssmith.core.errors import DataError
from ssmith.core.sequences import SPLITS, SequenceData, Sequences
from ssmith.data.digest import digest_of, sequence_keys
from ssmith.data.pool import Pool, valid_steps


def assemble(pool: Pool) -> SequenceData:
    """Cut a pool into its splits, describe and digest it."""
    if pool.split_of is None:
        raise DataError(f"{pool.name} has no splits", next_step="draw them first")
    splits = {name: _cut(pool, name) for name in SPLITS if name in pool.split_of}
    facts: dict[str, Any] = {"duplicates_across_splits": _straddling(splits)}
    if pool.task == "classification":
        facts["majority_rate"] = {name: _majority_rate(part) for name, part in splits.items()}
        facts["classes_absent"] = {
            name: [pool.classes[i] for i in _absent(part, len(pool.classes))]
            for name, part in splits.items()
        }
    elif "train" in splits:
        y = splits["train"].y.to(torch.float64)
        facts["target_mean"] = float(y.mean())
        facts["target_std"] = float(y.std(correction=0))
    return SequenceData(
        name=pool.name,
        task=pool.task,
        splits=splits,
        classes=pool.classes,
        vocabulary=pool.vocabulary,
        sha256=digest_of(splits),
        source=pool.source,
        details={**pool.details, **facts},
    )


def standardise(pool: Pool) -> Pool:
    """Scale each channel to mean 0 and variance 1, by the training split alone.

    Only valid steps count and only valid steps change; padding stays 0. A channel that is
    constant in the training split is shifted, not scaled.
    """
    if pool.vocabulary is not None:
        raise DataError(f"{pool.name} holds tokens", allowed="a real-valued series to scale")
    train = [i for i, name in enumerate(pool.split_of or ()) if name == "train"]
    if not train:
        raise DataError(f"{pool.name} has no training split to take mean and variance from")
    valid = valid_steps(pool.lengths, pool.x.shape[1])
    seen = pool.x[train][valid[train]].to(torch.float64)
    mean, std = seen.mean(dim=0), seen.std(dim=0, correction=0)
    # Compared by values, because the mean of equal numbers may differ from them by rounding.
    constant = seen.amax(dim=0) == seen.amin(dim=0)
    divisor = torch.where(constant, torch.ones_like(std), std)
    scaled = ((pool.x.to(torch.float64) - mean) / divisor).to(torch.float32)
    scaling = {"by": "train, per channel", "mean": mean.tolist(), "std": std.tolist()}
    x = torch.where(valid[..., None], scaled, torch.zeros_like(scaled))
    return replace(pool, x=x, details={**pool.details, "scaling": scaling})


def _cut(pool: Pool, name: str) -> Sequences:
    index = [i for i, assigned in enumerate(pool.split_of or ()) if assigned == name]
    return pool.sequences().take(torch.tensor(index, dtype=torch.int64))


def _straddling(splits: dict[str, Sequences]) -> int:
    """Count different inputs that appear in more than one split."""
    seen = Counter(key for part in splits.values() for key in set(sequence_keys(part)))
    return sum(count > 1 for count in seen.values())


def _absent(part: Sequences, classes: int) -> list[int]:
    return [i for i, count in enumerate(part.y.bincount(minlength=classes).tolist()) if not count]


def _majority_rate(part: Sequences) -> float:
    return float(part.y.bincount().max()) / len(part)
