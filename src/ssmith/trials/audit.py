"""Audit of behaviour: what changed from one model to another, as a receipt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ssmith import api
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt, versions
from ssmith.core.rows import Rows
from ssmith.core.sections import MethodSection, ModelSection
from ssmith.core.settings import to_mapping
from ssmith.core.tokens import TokenWindows
from ssmith.core.words import number_of
from ssmith.evaluation.behaviour import Behaviour, BehaviourConfig, Changed, behaviour_of
from ssmith.evaluation.behaviour_text import TextBehaviour, text_behaviour_of
from ssmith.families import answers_of
from ssmith.jobs.compare import check_alike
from ssmith.jobs.source import RowsConfig, open_source, reads_text
from ssmith.trials.recording import Keep, nowhere, record, refuse_unknown

ACTION = "audit"


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """What to audit.

    Args:
        rows: on which rows.
        behaviour: what is looked at.
    """

    rows: RowsConfig = field(default_factory=RowsConfig)
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What was found, and the same as a receipt."""

    behaviour: Behaviour | TextBehaviour
    receipt: Receipt

    @property
    def headline(self) -> str:
        """What was found, in one sentence."""
        found = self.behaviour
        if isinstance(found, TextBehaviour):
            return (
                f"{found.agreement.value:.2%} of greedy tokens agree, "
                f"{found.changed.value:.1%} of {number_of(found.changed.count, 'prompt')} are "
                "answered otherwise"
            )
        whole = found.whole.changed
        return f"{whole.value:.2%} of {number_of(whole.count, 'answer')} changed"

    def details(self, against: str) -> dict[str, Any]:
        """Return what a policy may ask for; ``against`` is the first model's digest."""
        found = self.behaviour
        if isinstance(found, TextBehaviour):
            changed = found.changed
            more: dict[str, Any] = {
                "agreement": found.agreement.value,
                "divergence": found.divergence.value,
            }
        else:
            changed = found.whole.changed
            metric = found.metric
            more = {
                "metric": {
                    "name": metric.name, "share": metric.proportion, "relative": metric.relative
                },
                "slices": {name: _plainly(groups) for name, groups in found.groups.items()},
            }  # fmt: skip
        return {
            "against": against,
            "data": self.receipt.data.sha256,
            "rows": changed.count,
            "flips": changed.value,
            "flips_upper": changed.high,
            **more,
        }


def audit(
    before: str,
    after: str,
    data: str,
    config: AuditConfig,
    *,
    line: str | None = None,
    keep: Keep = nowhere,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Audited:
    """Run two models on the same rows and say what changed.

    Args:
        before: a directory, a hub id or ``embedded:NAME``.
        after: the same for the second model.
        data: their data (see `ssmith.load_data`, `ssmith.load_text`).
        config: what to look at.
        line: directory of the line that is to know; None for none.
        keep: keeps the receipt, before the line is written.
        command: the command line to repeat it, for the receipt.
        progress: told after each part.

    Returns:
        What was found.

    Raises:
        ModelError: if the two models do not read and predict the same.
        InputError: if a setting does not go with them, or the line has no such version.
    """
    text, split = reads_text(before), config.rows.split
    config.rows.check_kind(text=text)
    models = api.load(before), api.load(after)
    check_alike(models, (before, after))
    seen = api.inspect(models[0], before), api.inspect(models[1], after)
    refuse_unknown(line, seen[1].digest, after)
    columns = () if text else config.behaviour.slices
    source = open_source(
        models[0], before, data, config.rows.field, needs=(split,), columns=columns
    )
    rows = source.rows(split, config.rows)
    progress("run both models", 0, 1)
    found = _behaviour(models, rows, config)
    progress("run both models", 1, 1)
    receipt = Receipt(
        action=ACTION,
        model=ModelSection(
            name=f"{before} → {after}",
            digest_before=seen[0].digest,
            digest_after=seen[1].digest,
        ),
        method=MethodSection(command=tuple(command), settings=to_mapping(config)),
        seed=config.behaviour.seed,
        versions=versions(),
        data=replace(source.describe(rows), split=split),
        findings=tuple(source.findings()),
        details=found.section(),
    )
    audited = Audited(behaviour=found, receipt=receipt)
    keep(receipt)
    if line is not None:
        record(
            line,
            ACTION,
            tensors=seen[1].digest,
            name=after,
            receipt=receipt.as_dict(),
            reason=audited.headline,
            details=audited.details(seen[0].digest),
        )
    return audited


def _behaviour(
    models: tuple[nn.Module, nn.Module], rows: Rows, config: AuditConfig
) -> Behaviour | TextBehaviour:
    size, answers = config.rows.at_once(rows), answers_of(models[0])
    if isinstance(rows, TokenWindows):
        return text_behaviour_of(*models, rows, config.behaviour, batch_size=size)
    classes = None
    if answers is not None and answers.task == "classification":
        classes = answers.classes
    return behaviour_of(*models, rows, config.behaviour, classes=classes, batch_size=size)


def _plainly(groups: Sequence[Changed]) -> list[dict[str, Any]]:
    """Return of each group what a policy may ask for: what it loses, and at most."""
    return [
        {
            "slice": item.name,
            "rows": item.loss.count,
            "before": item.before,
            "loss": item.loss.value,
            "loss_upper": item.loss.high,
        }
        for item in groups
    ]
