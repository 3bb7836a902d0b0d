"""Whole blocks, removed one after the other where the calibration rows miss them least."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith.core.budget import AUTO, NONE, Budget
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.files import is_scrap, write_json
from ssmith.core.identity import as_json, check_same_run
from ssmith.core.plan import Cut, Plan
from ssmith.core.progress import Progress
from ssmith.core.settings import read_typed
from ssmith.core.words import number_of, span
from ssmith.families import can_go, chain_of, model_digest, sync_depth_, without_block
from ssmith.spine.absorb import Absorber

BLOCK = "block"
TRIALS = "trials.json"
_OTHER = "choose another working directory, or repeat the same command"
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "method": (AUTO, "loss"), "settings": ({},), "scope": (AUTO,), "targets": ((),),
    "min_per_layer": (0,), "compensate": (AUTO, NONE, ("O",)), "semantics": (None, "remove"),
}  # fmt: skip


def plan_blocks(
    model: nn.Module,
    budget: Budget,
    loss: Callable[[nn.Module], float],
    *,
    absorber: Absorber | None = None,
    identity: Mapping[str, Any] | None = None,
    work_dir: Path | None = None,
    progress: Progress,
) -> Plan:
    """Decide which blocks of a model go, each time the one that is missed least.

    Every block that is left is tried; the one without which the loss is lowest goes, until enough
    have gone. With an ``absorber`` the block before it makes up for each, also when it is tried.

    The loss is of a model on calibration rows, never those that it is judged on. A working
    directory keeps every measured loss under the identity of what they depend on, and the pass
    goes on from it.

    Source: Mamba-Shedder, whole blocks.
    Differs: rows are drawn from a training split; its released code reads the test split.
    """
    budget.refuse_beside(_ALLOWED, of="blocks")
    name, total = chain_of(model).name, chain_of(model).coupling(BLOCK).count
    wanted = budget.removed_of(total)
    if not 1 <= wanted < total:
        raise InputError(
            f"{number_of(wanted, 'block')} of {total} are to go",
            allowed=f"{span(1, total - 1)}, as one stays"
            if total > 1
            else "a model of two or more",
        )
    work, names = copy.deepcopy(model), list(range(total))
    trials = Trials.open(work_dir, identity or {})

    def measured(gone: Sequence[int]) -> float:
        # Whichever of them went first, the model is the same, unless others made up for them.
        order = sorted(gone) if absorber is None else gone
        return trials.loss(",".join(map(str, order)), lambda: loss(work))

    refitted: list[nn.Linear] = []
    steps: list[dict[str, Any]] = [{"loss": measured(())}]
    tries, done = sum(total - gone for gone in range(wanted)), 0
    for _ in range(wanted):
        gone = [step["removed"] for step in steps[1:]]
        losses = {}
        free = [place for place in range(len(names)) if can_go(work, place)]
        if not free:
            raise UnsupportedError(
                f"{len(gone)} of {wanted} blocks are gone, and no other one can go",
                allowed="blocks that the configuration can leave out", next_step="remove fewer",
            )  # fmt: skip
        for place in free:
            block = names[place]
            progress("trying blocks", done, tries, f"block {block}")
            with without_block(work, place), _made_up_for(absorber, work, place, block):
                losses[place] = measured([*gone, block])
            done += 1
        least = min(losses, key=losses.__getitem__)
        site, keep = chain_of(work), torch.arange(len(names)) != least
        site.cut_(site.coupling(BLOCK), keep)
        sync_depth_(work, keep)
        block = names.pop(least)
        fitted = None if absorber is None else absorber.absorb_(work, least, block)
        refitted += [] if fitted is None else [fitted[0]]
        steps.append({"removed": block, "loss": losses[least]})
    progress("trying blocks", tries, tries, "")
    keep = torch.zeros(total, dtype=torch.bool)
    keep[names] = True
    label = "Blocks by loss" + ("" if absorber is None else ", the block before refitted")
    cut = Cut(
        unit=BLOCK, keep={name: keep}, method={"name": "loss", "label": label},
        budget=budget.as_dict(),
    )  # fmt: skip
    values = {
        f"{path}.weight": part.weight.detach().cpu().clone()
        for path, part in work.named_modules()
        if any(part is item for item in refitted)
    }
    return Plan(
        cuts=(cut,), values=values, facts={"steps": steps}, model_digest=model_digest(model)
    )


def _made_up_for(
    absorber: Absorber | None, work: nn.Module, place: int, block: int
) -> AbstractContextManager[None]:
    return nullcontext() if absorber is None else absorber.tried(work, place, block)


@dataclass(frozen=True)
class _Kept:
    """`Trials` in their file."""

    identity: dict[str, Any]
    perplexities: dict[str, float]


@dataclass(frozen=True)
class Trials:
    """Losses by what was cut: the blocks that were left out, or how much of which unit.

    They depend on the ``identity``, and are kept at the ``path``, or in memory only.
    """

    path: Path | None
    identity: Mapping[str, Any]
    found: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path | None, identity: Mapping[str, Any]) -> Trials:
        """Open a working directory, or make it."""
        if directory is None:
            return cls(None, identity)
        path = directory / TRIALS
        if path.is_file():
            there = read_typed(_Kept, path, next_step=_OTHER)
            check_same_run(there.identity, identity, what=str(directory), next_step=_OTHER)
            return cls(path, identity, there.perplexities)
        others = [directory] if directory.is_file() else directory.glob("*")
        if not all(is_scrap(item.name) for item in others):
            raise InputError(
                f"{directory} is not empty", allowed="a directory that is new or empty",
                next_step="choose another working directory",
            )  # fmt: skip
        directory.mkdir(parents=True, exist_ok=True)
        trials = cls(path, identity)
        trials._write()
        return trials

    def loss(self, key: str, measure: Callable[[], float]) -> float:
        """Return the loss of a cut, measured unless it was before."""
        if key not in self.found:
            self.found[key] = measure()
            self._write()
        return self.found[key]

    def _write(self) -> None:
        if self.path is not None:
            write_json(self.path, {"identity": as_json(self.identity), "perplexities": self.found})
