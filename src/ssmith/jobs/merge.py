"""Merge an adapter into its base, from files to files, and for jobs that need one whole model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import api
from ssmith.artefact import locate
from ssmith.artefact.tuned import base_of
from ssmith.core.checks import check_choice
from ssmith.core.details import MergeDetails, MergeReport
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.receipt import RECEIPT, Receipt, versions
from ssmith.core.sections import MethodSection, ModelSection
from ssmith.core.settings import to_mapping
from ssmith.families import model_digest
from ssmith.families.heads import TaskModel
from ssmith.jobs.outputs import RECIPE
from ssmith.tune import adapters
from ssmith.tune.adapters.merge import HELD, MERGES, STOCK, check_mergeable, unmergeable

ACTION = "merge"


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """How an adapter becomes a model.

    Args:
        form: ``"stock"`` writes what was trained into the weights, and refuses what cannot be;
            ``"ssmith"`` lets the model hold state offsets beside them as well, which stock
            transformers does not know.
    """

    form: str = STOCK

    def __post_init__(self) -> None:
        check_choice("form", self.form, MERGES)


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A model without adapters, and what was merged into it, if anything was.

    ``digest`` is of what was loaded, its adapter included.
    """

    model: nn.Module
    digest: str
    methods: tuple[str, ...] = ()
    report: MergeReport | None = None

    @property
    def said(self) -> str:
        """What was merged, in one line; empty if nothing was."""
        if self.report is None:
            return ""
        held = len(self.report.held)
        beside = f", {held} offsets held beside them" if held else ""
        change = self.report.difference
        by = "" if change is None else f"; an output changed by at most {change:.1e}"
        return (
            f"merged {', '.join(self.methods)} into {len(self.report.merged)} tensors{beside}{by}"
        )


def whole(spec: str | Path, *, hold: bool = True) -> Merged:
    """Load a model; what an adapter learned is written into its base, which answers as with it.

    ``hold``: the model may hold state offsets beside its weights. Raises `UnsupportedError` if a
    part of the adapter cannot be written into the model.
    """
    model = api.load(spec)
    digest = model_digest(model)
    names = adapters.adapters_of(model)
    if not names:
        return Merged(model=model, digest=digest)
    if isinstance(model, TaskModel):
        raise UnsupportedError(
            f"{spec} has a head of its own on a language model, and no file of a model holds such "
            "a head: it cannot be merged",
            allowed="adapters of language modelling, or of S5 and S4D models",
            next_step="do this with the base, and tune the result again",
        )
    [(name, methods)] = names.items()
    _check(model, name, spec, hold=hold)
    report = adapters.merge_(model, name, hold=hold)
    labels = tuple(method.label() for method in methods)
    return Merged(model=model, digest=digest, methods=labels, report=report)


def _check(model: nn.Module, name: str, spec: str | Path, *, hold: bool) -> None:
    """Refuse what cannot be merged, with what can be done in its place."""
    try:
        check_mergeable(model, name, hold=hold)
    except UnsupportedError as error:
        step = f"do this with its base, {base_of(locate(spec))}, and tune the result again"
        if not hold and not unmergeable(model, name, hold=True):
            step = f"let the model hold its offsets: ssmith merge {spec} --out MODEL --form {HELD}"
        raise UnsupportedError(
            f"{spec}: {error.what}", allowed=error.allowed, next_step=step
        ) from error


def merge(
    spec: str | Path,
    config: MergeConfig,
    out: Path,
    *,
    overwrite: bool = False,
    command: Sequence[str] = (),
    recipe: str | None = None,
) -> tuple[Receipt, str]:
    """Merge an adapter, and save the model with its receipt.

    Args:
        spec: directory of the adapter.
        config: how.
        out: the directory to make.
        overwrite: replace an earlier output there.
        command: the command line, for the receipt.
        recipe: the settings as a text, saved beside the result.

    Returns:
        The receipt, and what was merged in one line.

    Raises:
        InputError: if there is no adapter at ``spec``.
        UnsupportedError: if a part of it cannot be written into the model.
    """
    made = whole(spec, hold=config.form == HELD)
    if made.report is None:
        raise InputError(
            f"{spec} is a model without an adapter", allowed="the directory of an adapter",
            next_step="name what --out of tune made",
        )  # fmt: skip
    receipt = Receipt(
        action=ACTION,
        model=ModelSection(
            name=str(spec), digest_before=made.digest, digest_after=model_digest(made.model),
            parameters=sum(item.numel() for item in made.model.parameters()),
        ),
        method=MethodSection(
            methods=made.methods, settings=to_mapping(config), command=tuple(command)
        ),
        seed=None,
        versions=versions(),
        details=MergeDetails(merge=made.report),
    )  # fmt: skip
    files: dict[str, str | bytes] = {RECEIPT: receipt.to_json()}
    facts: dict[str, Any] = {"title": "Merged state space model", "text": [f"{spec}: {made.said}."]}
    api.save(
        made.model, out, overwrite=overwrite, parent=made.digest, facts=facts,
        extra_files=files | ({} if recipe is None else {RECIPE: recipe}),
    )  # fmt: skip
    return receipt, made.said
