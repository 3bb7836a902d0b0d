"""Real rows that changed, and rows that did not: what is read of both by a cut model."""

from __future__ import annotations

import copy
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.optional import require
from ssmith.core.plan import Plan
from ssmith.core.rows import Rows
from ssmith.core.seeds import permutation
from ssmith.core.sequences import Sequences
from ssmith.data.pool import pad_series
from ssmith.data.ts_file import read_ts
from ssmith.evaluation.task import Task
from ssmith.evaluation.tasks import TASKS
from ssmith.families import LTIOptions, SequenceConfig, SequenceModel
from ssmith.surgery import prune_

WIDTH, STATES, STEPS, RATE = 16, 16, 250, 4e-3
LENGTH = 256
DEPTHS, ENTRIES = (0.6, 0.4, 0.5, 0.7, 0.8), (0.75, 0.5, 0.6, 0.7, 0.8)
"""Sparsity of the cut by seed: of states, and of the entries of A_log."""
HOURS = 18


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model, rows it was not trained on, and rows that changed.

    Args:
        name: of the source.
        dense: the model before the cut.
        model: the cut one.
        plan: of the cut.
        task: what good means.
        held: rows of the source that no step of training or calibration saw.
        shifts: what changed, in words → rows.
        look: rows of one look.
        profile: rows of a profile.
    """

    name: str
    dense: nn.Module
    model: nn.Module
    plan: Plan
    task: Task
    held: Rows
    shifts: dict[str, Rows]
    look: int
    profile: int


def sources(*, quick: bool, seed: int = 0) -> Iterator[Source]:
    """Yield every source; quick: the smallest one. The seed is of the training, and of the cut."""
    made: list[Callable[[int], Source]] = [season, speakers, machines, movements, text]
    for make in made[:1] if quick else made:
        yield make(seed)


def season(seed: int) -> Source:
    """Power of a day in Italy: the evening from the day before it; winter, then summer."""
    series, labels = archive("ItalyPowerDemand")
    x = torch.stack(series)[..., 0]
    winter = torch.tensor([label == "1" for label in labels])
    days = rows_of(x[:, :HOURS, None], x[:, HOURS:].mean(1, keepdim=True))
    return fitted("power", days, winter, {"summer after winter": ~winter}, look=20, profile=180,
                  seed=seed)  # fmt: skip


def speakers(seed: int) -> Source:
    """Japanese vowels: the last frame from those before it; six speakers, then three others."""
    series, labels = archive("JapaneseVowels")
    known = torch.tensor([label in "123456" for label in labels])
    rows = Sequences(
        x=pad_series([one[:-1] for one in series]).float(),
        lengths=torch.tensor([len(one) - 1 for one in series]),
        y=torch.stack([one[-1] for one in series]).float(),
    )
    return fitted("vowels", rows, known, {"other speakers": ~known}, look=10, profile=150,
                  seed=seed)  # fmt: skip


def machines(seed: int) -> Source:
    """Electric current of appliances: the end of a second from its beginning; other machines."""
    series, labels = archive("PLAID")
    whole = [place for place, one in enumerate(series) if len(one) >= 200]
    x = torch.stack([series[place][:200, 0].unfold(0, 2, 2).mean(1) for place in whole])
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True).clamp(min=1e-6)
    known = torch.tensor([labels[place] in ("1", "7", "4", "2") for place in whole])
    rows = rows_of(x[:, :-5, None], x[:, -5:])
    return fitted("appliances", rows, known, {"other machines": ~known}, look=20, profile=200,
                  seed=seed)  # fmt: skip


def movements(seed: int) -> Source:
    """Sensors on a wrist: the next step from a second; standing and walking, then badminton."""
    series, labels = archive("BasicMotions")
    cut = [one.unfold(0, 20, 20).mT for one in series]
    pieces = torch.cat(cut)
    names = [label for label, one in zip(labels, cut, strict=True) for _ in range(len(one))]
    calm = torch.tensor([name in ("Standing", "Walking") for name in names])
    other = torch.tensor([name == "Badminton" for name in names])
    rows = rows_of(pieces[:, :-1], pieces[:, -1])
    return fitted("movements", rows, calm, {"badminton after walking": other}, look=5, profile=70,
                  seed=seed)  # fmt: skip


def text(seed: int) -> Source:
    """A model of Python sources on sources it has not seen, on prose and on C headers."""
    dense: Any = api.load("embedded:python-mamba")
    sources = api.load_text("stdlib:", dense)
    budget = Budget("entry", ENTRIES[seed], method="gram-greedy")
    plan = spine.plan(dense, budget, sources.sample(8, LENGTH))
    headers = api.load_text(str(Path(sysconfig.get_paths()["include"])), dense)
    prose = api.load_text("pydoc:", dense)
    return Source(
        name="Python sources", dense=dense, model=cut(dense, plan), plan=plan,
        task=TASKS["perplexity"], held=sources.windows(LENGTH, split="test").spread(120),
        shifts={
            "prose after code": prose.windows(LENGTH, split="all").spread(50),
            "C headers after Python": headers.windows(LENGTH, split="all").spread(50),
        },
        look=5, profile=60,
    )  # fmt: skip


def archive(name: str) -> tuple[list[Tensor], list[str]]:
    """Return all series of a set that sktime carries, and their labels."""
    package = require("sktime", extra="data", purpose=name)
    folder = Path(str(package.__file__)).parent / "datasets" / "data" / name
    series, labels = read_ts(folder / f"{name}_TRAIN.ts")
    more, theirs = read_ts(folder / f"{name}_TEST.ts")
    return [one.float() for one in (*series, *more)], [*labels, *theirs]


def rows_of(x: Tensor, y: Tensor) -> Sequences:
    """Return rows of one length."""
    return Sequences(x=x.float(), lengths=torch.full((len(x),), x.shape[1]), y=y.float())


def fitted(
    name: str,
    rows: Sequences,
    known: Tensor,
    shifts: dict[str, Tensor],
    *,
    look: int,
    profile: int,
    seed: int,
) -> Source:
    """Train a small S5 model on a third of the known rows, cut it, and hold the others back."""
    places = known.nonzero().flatten()
    order = places[permutation(len(places), seed, name)]
    count = len(order) // 3
    train, held = rows.take(order[:count]), rows.take(order[count:])
    at, spread = train.x.mean((0, 1)), train.x.std((0, 1)).clamp(min=1e-6)

    def scaled(part: Sequences) -> Sequences:
        valid = torch.arange(part.x.shape[1]) < part.lengths[:, None]
        return replace(part, x=torch.where(valid[..., None], (part.x - at) / spread, 0.0))

    train = scaled(train)
    dense = trained(train, seed)
    plan = spine.plan(dense, Budget("state", DEPTHS[seed]), train)
    return Source(
        name=name, dense=dense, model=cut(dense, plan), plan=plan,
        task=TASKS["mean absolute error"], held=scaled(held),
        shifts={what: scaled(rows.take(mask.nonzero().flatten())) for what, mask in shifts.items()},
        look=look, profile=profile,
    )  # fmt: skip


def trained(rows: Sequences, seed: int) -> SequenceModel:
    """Train a model to predict the targets."""
    torch.manual_seed(seed)
    config = SequenceConfig(
        family="s5", width=WIDTH, states=(STATES, STATES), task="regression",
        outputs=int(np.prod(rows.y.shape[1:])), channels=rows.x.shape[2],
        options=LTIOptions(clip_eigs=True),
    )  # fmt: skip
    model = SequenceModel(config, torch.Generator().manual_seed(seed))
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    stream = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        part = rows.take(torch.randint(len(rows), (64,), generator=stream))
        loss = (model(part.x, part.lengths) - part.y.flatten(1)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def cut(dense: nn.Module, plan: Plan) -> nn.Module:
    """Return a cut copy."""
    model = copy.deepcopy(dense)
    prune_(model, plan)
    return model
