"""Small tuning runs: the input projections of a tiny Mamba, learned from a few token rows."""

from __future__ import annotations

from typing import Any

import torch

from helpers.tiny_mamba import tiny, tokens
from ssmith.core.examples import Example
from ssmith.families.hf import accelerate_
from ssmith.tune.training import LanguageObjective, RateGroup, TrainingConfig, Work


def random_rows(count: int, *, start: int = 0, seed: int = 0) -> list[Example]:
    """Draw token rows of different lengths."""
    return [
        Example(ids=tokens(1, 8 + number % 5, seed=seed + number)[0] % 7 + 1, start=start)
        for number in range(count)
    ]


def labelled(count: int, task: str) -> list[Example]:
    """Draw token rows whose label is whether token 1 or 2 fills them."""
    rows = []
    for number in range(count):
        kind = number % 2
        ids = torch.full((6 + number % 4,), 1 + kind)
        ids[0] = 3 + number % 9
        rows.append(Example(ids=ids, target=kind if task == "classification" else 2.0 * kind))
    return rows


def language_work(
    *, checkpoint: Any = None, identity: Any = None, progress: Any = None, **settings: Any
) -> tuple[Any, Work]:
    """Return a tiny model and the work that tunes its input projections."""
    model = tiny("mamba")
    accelerate_(model)
    model.requires_grad_(False)
    trained = {name: item for name, item in model.named_parameters() if "in_proj" in name}
    for item in trained.values():
        item.requires_grad_(True)

    def write(tensors: Any) -> None:
        with torch.no_grad():
            for name, value in tensors.items():
                trained[name].copy_(value)

    config = TrainingConfig(**({"rate": 0.05, "batch_size": 4} | settings))
    group = RateGroup(name="in_proj", parameters=trained, rate=config.rate)
    more = {} if progress is None else {"progress": progress}
    return model, Work(
        objective=LanguageObjective(), train=random_rows(16), validation=random_rows(6, seed=50),
        config=config, groups=[group], read=lambda: {k: v.detach() for k, v in trained.items()},
        write=write, checkpoint=checkpoint, identity=identity or {}, **more,
    )  # fmt: skip


def loss_of(model: Any, rows: Any) -> float:
    """Return the mean loss over the learned tokens of some rows."""
    objective = LanguageObjective()
    batch = objective.collate(rows)
    with torch.no_grad():
        return float(objective.measure(model, batch).sum() / objective.counts(batch).sum())
