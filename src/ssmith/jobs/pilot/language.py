"""The pilot on a language model, stage by stage: sweep, cut, prove, compare, judge, report."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import api, spine
from ssmith.artefact import locate
from ssmith.core.pattern import amount_as_json
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress, part_of
from ssmith.core.receipt import Receipt, versions
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import (
    Estimate,
    Evidence,
    ParityReport,
    check,
    estimate_saving,
    judge,
)
from ssmith.evaluation.harness import check_harness, compare_tasks, run_tasks
from ssmith.evaluation.language_parity import (
    logits_difference,
    stepping_difference,
    stock_difference,
)
from ssmith.evaluation.metrics import PERPLEXITY
from ssmith.families import model_digest
from ssmith.families.registry import find_selective
from ssmith.jobs.outputs import RECEIPT
from ssmith.jobs.pilot.costs import measure_costs
from ssmith.jobs.pilot.cuts import amount_of
from ssmith.jobs.pilot.frame import MODEL, Frame, about
from ssmith.jobs.pilot.language_config import LanguagePilotConfig
from ssmith.jobs.pilot.recovery import Recovery, cut_difference
from ssmith.jobs.pilot.store import Store
from ssmith.jobs.pilot.sweep import measured_point, within
from ssmith.jobs.source import one_batch, open_source, tokenizer_for
from ssmith.jobs.tuning.recovery import Recovered

# transformers computes norms and logits in float32; relative to the largest logit.
_STOCK_TOLERANCE = 2e-5
_CHECKED_TOKENS = 96
# Masks of these are shown in full; those of single weights would be too many.
_SHOWN = ("state", "entry")


def pilot_language(
    model: str, data: str, frame: Frame, config: LanguagePilotConfig | None = None
) -> Receipt:
    """Find the largest cut of a language model within a tolerance, make, prove and judge it.

    Calibrated on the training split, chosen on the selection split, judged on the test split,
    which nothing else looks at.

    Args:
        model: a directory, a hub id or ``embedded:NAME``.
        data: the text (see `ssmith.load_text`).
        frame: where it runs.
        config: what to try and what to accept.

    Returns:
        The receipt; ``verdict["accepted"]`` says how it went.

    Raises:
        SsmithError: for bad input; nothing is written then.
    """
    settings = config or LanguagePilotConfig()
    frame.refuse_early(model, data, *(name for name in settings.lm_eval if Path(name).exists()))
    check_harness(settings.harness())
    dense = api.load(model)
    layers = find_selective(dense)
    source = open_source(dense, model, data, settings.field)
    text: Any = source.data
    recovery = Recovery.from_text(dense, text, settings, frame)
    run = _Run(
        name=model,
        store=frame.store,
        config=settings,
        dense=dense,
        refits=all(map(spine.can_refit, layers.values())),
        calibration=text.sample(settings.samples, settings.length, seed=settings.seed),
        selection=settings.text("selection").cut(text),
        test=settings.text("test").cut(text),
        recovery=recovery,
        progress=frame.progress,
    )
    identity = {
        "model": {"name": model, "digest": model_digest(dense)},
        "data": {
            **source.describe(run.test),
            "calibration": run.calibration.describe(),
            "selection": run.selection.describe(),
            **({} if recovery is None else recovery.about),
        },
        "config": settings.as_dict(),
        "versions": versions(),
    }
    return frame.run(identity, run)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What the stages of one pilot share."""

    name: str
    store: Store
    config: LanguagePilotConfig
    dense: nn.Module
    refits: bool
    calibration: TokenWindows
    selection: TokenWindows
    test: TokenWindows
    recovery: Recovery | None
    progress: Progress

    def about(self) -> dict[str, Any]:
        """Return what the model is, for the receipt."""
        return about(self.name, self.dense, "language modelling")

    def curve(self) -> dict[str, Any]:
        """Sweep the method and its baselines on the selection split, and choose the cut."""
        config = self.config
        dense = self.store.once("baseline", lambda: self._on_selection(self.dense).as_dict())
        total = len(config.methods()) * len(config.tried())
        swept: dict[str, list[dict[str, Any]]] = {}
        for name in config.methods():
            label = config.choice(name, config.tried()[0], refits=self.refits).label
            if label in swept:
                continue
            swept[label] = []
            for fraction in config.tried():
                done = sum(map(len, swept.values()))
                inner = part_of(self.progress, "sweep", done, total)
                point = self.store.once(
                    f"sweep-{name}-{fraction:g}", partial(self._point, name, fraction, inner)
                )
                swept[label].append(point)
                self.progress("sweep", done + 1, total, f"{label}, {fraction:g}")
        label, points = next(iter(swept.items()))
        limit = (dense["value"], PERPLEXITY, float(config.max_loss))
        good = within(points, *limit)
        chosen = {"method": label, **points[good - 1]} if good else None
        if self.recovery is not None:
            name = f"{label} + {config.recover}"
            swept[name] = self.recovery.walk(
                config.tried()[max(good - 1, 0) :],
                lambda fraction: self._point(
                    config.method, fraction, self.progress, recovered=True
                ),
                limit,
            )
            fine = within(swept[name], *limit)
            if fine:
                chosen = {"method": name, **swept[name][fine - 1]}
        return {
            "metric": PERPLEXITY.name,
            "higher_is_better": False,
            "split": "selection",
            "count": len(self.selection),
            "counted": PERPLEXITY.counted,
            "dense": dense,
            "tolerance": config.max_loss * dense["value"],
            "method": config.method,
            "chosen": chosen,
            "methods": swept,
        }

    def cut_and_judge(self, method: str, chosen: dict[str, Any]) -> dict[str, Any]:
        """Cut, save, check, measure and judge; return the receipt's sections."""
        out, config = self.store.out, self.config
        pruned, plan, done, recovered = self._cut(
            method,
            chosen["fraction"],
            part_of(self.progress, "cut", 0, 1),
            recovered=chosen.get("recovered", False),
        )
        plan.save(out)
        extra = {RECEIPT: done.to_json().encode(), **plan.files()}
        removed = ", ".join(
            f"{facts['after']} of {facts['before']} {unit} kept"
            for unit, facts in done.removed.items()
        )
        api.save(
            pruned,
            out / MODEL,
            overwrite=True,
            parent=done.model["digest_before"],
            facts={
                "title": "Pruned state space language model",
                "text": [f"{removed}, by {method}."],
            },
            extra_files=extra,
        )
        self.progress("cut", 1, 1, removed)
        measured = self.store.once("measured", lambda: self._judged(pruned, plan, done))
        self.progress("compare", 1, 1, str(measured["verdict"]["headline"]))
        return {
            **measured,
            "mode": "shrink" if config.cut == "state" else "mask",
            "removed": done.removed,
            "findings": [*done.findings, *measured["findings"]],
            "layers": _layers(plan),
            "budget": {config.cut: amount_as_json(amount_of(chosen["fraction"], config.group))},
            "criterion": {"name": method},
            "recovery": None if recovered is None else recovered.as_dict(),
            "digest_after": model_digest(pruned),
        }

    def _judged(self, pruned: nn.Module, plan: Plan, done: Receipt) -> dict[str, Any]:
        config, saved = self.config, self.store.out / MODEL
        parity = self._parity(pruned, saved, plan)
        self.progress("parity", 1, 1)
        costs = measure_costs(
            (self.dense, pruned),
            (locate(self.name), saved),
            one_batch(self.selection, config.batch_size),
            config.speed(),
        )
        self.progress("speed", 1, 1)
        compared = api.compare(
            self.dense, pruned, self.test, seed=config.seed, batch_size=config.batch_size
        )
        evidence = Evidence(
            comparison=compared,
            parity=parity,
            changes=costs.changes(),
            removed=done.removed,
        )
        return {
            "quality": {**compared.as_dict(split="test"), **self._tasks(pruned)},
            "parity": parity.as_dict(),
            **costs.sections(),
            "findings": costs.findings(),
            "saving": estimate_saving(
                config.load(),
                per_sequence=costs.speed.per_sequence,
                batch_size=costs.speed.batch_size,
                path=costs.speed.path,
            ),
            "verdict": judge(evidence, config.limits()),
        }

    def _tasks(self, pruned: nn.Module) -> dict[str, Any]:
        """Return what both models make of lm-eval's tasks; nothing where none is asked for."""
        harness = self.config.harness()
        if harness is None:
            return {}
        tokenizer = tokenizer_for(self.dense, self.name)
        before, after = (run_tasks(model, tokenizer, harness) for model in (self.dense, pruned))
        self.progress("lm-eval", 1, 1)
        return {"lm_eval": compare_tasks(before, after, self.config.seed)}

    def _parity(self, pruned: nn.Module, saved: Path, plan: Plan) -> ParityReport:
        ids = self.selection.first(2).ids[:, :_CHECKED_TOKENS]
        return ParityReport(
            checks=(
                check("step_vs_scan", lambda: stepping_difference(pruned, ids)),
                check(
                    "saved_vs_loaded",
                    lambda: logits_difference(pruned, api.load(saved), ids),
                    tolerance=0.0,
                ),
                check(
                    "cut_stays_cut", lambda: cut_difference(api.load(saved), plan), tolerance=0.0
                ),
                check(
                    "engine_vs_stock",
                    lambda: stock_difference(pruned, ids),
                    tolerance=_STOCK_TOLERANCE,
                ),
            )
        )

    def _on_selection(self, model: nn.Module) -> Estimate:
        config = self.config
        return api.evaluate(model, self.selection, seed=config.seed, batch_size=config.batch_size)

    def _point(
        self, method: str, fraction: float, progress: Progress, *, recovered: bool = False
    ) -> dict[str, Any]:
        facts: dict[str, Any] = {}

        def attempt(fraction: float, removed: Callable[[float], None]) -> Estimate:
            pruned, _, done, recovery = self._cut(method, fraction, progress, recovered=recovered)
            cut = done.removed.values()
            removed(1 - sum(each["after"] for each in cut) / sum(each["before"] for each in cut))
            if recovery is not None:
                facts["validation"] = recovery.validation
            return self._on_selection(pruned)

        return {**measured_point(fraction, attempt), **facts}

    def _cut(
        self, method: str, fraction: float, progress: Progress, *, recovered: bool = False
    ) -> tuple[nn.Module, Plan, Receipt, Recovered | None]:
        budgets = self.config.budgets(method, fraction, recovered=recovered)
        plan = spine.plan(self.dense, budgets, self.calibration, progress=progress)
        pruned = copy.deepcopy(self.dense)
        done = api.prune_(pruned, plan)
        if self.recovery is None or not recovered:
            return pruned, plan, done, None
        return pruned, plan, done, self.recovery.apply_(pruned, self.dense, fraction)


def _layers(plan: Plan) -> list[dict[str, Any]]:
    """Return what went of each layer and weight, for the report; masks of states in full."""
    return [
        {
            "name": name,
            "grid": list(keep.shape),
            "before": keep.numel(),
            "after": int(keep.sum()),
            "scores": [],
            "kept": keep.flatten().tolist() if cut.unit in _SHOWN else [],
        }
        for cut in plan.cuts
        for name, keep in cut.keep.items()
    ]
