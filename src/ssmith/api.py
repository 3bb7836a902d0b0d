"""The spine: the only place where two verbs meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import allocate, artefact, data, evaluate, families, surgery
from ssmith.core.budget import Budget
from ssmith.core.errors import ModelError
from ssmith.core.inspection import Inspection
from ssmith.core.plan import Plan
from ssmith.core.scores import Scores
from ssmith.core.sequences import SPLITS, SequenceData, Sequences
from ssmith.criteria import Criterion
from ssmith.evaluate import Comparison, Estimate, Metric, ParityReport
from ssmith.families import SequenceModel

load = artefact.load
load_sequence_model = artefact.load_sequence_model
save = artefact.save
verify = artefact.verify
prune_ = surgery.prune_
check_paths = evaluate.check_paths
PathParityConfig = evaluate.PathParityConfig
BATCH_SIZE = 64
PARITY_SEQUENCES = 8


def inspect(model: nn.Module, name: str = "") -> Inspection:
    """Return what a model is made of: layers, states, sizes, what can be cut.

    Args:
        model: any module with S5, S4D or selective layers inside.
        name: what to call it; the class name if empty.

    Returns:
        An inspection; printing it shows a summary.

    Raises:
        ModelError: if there is no state space layer.
    """
    # Tied tensors have two names and are counted once.
    tensors = {id(item): item for item in model.state_dict(keep_vars=True).values()}.values()
    return Inspection(
        name=name or type(model).__name__,
        digest=families.model_digest(model),
        parameters=sum(item.numel() for item in model.parameters()),
        tensor_bytes=sum(item.numel() * item.element_size() for item in tensors),
        layers=families.describe(model),
        facts=_facts(model),
    )


def _facts(model: nn.Module) -> dict[str, Any]:
    if not isinstance(model, SequenceModel):
        return families.hf_facts(model)
    config = model.config
    taken = f"{config.channels} channels" if config.channels else f"{config.vocabulary} token ids"
    return {"task": config.task, "input": taken, "outputs": config.outputs}


def load_data(
    spec: str | Path,
    model: nn.Module | None = None,
    *,
    seed: int = 0,
    needs: Sequence[str] = SPLITS,
) -> SequenceData:
    """Load a data set in its splits, and check that it fits a model if one is given.

    Args:
        spec: ``embedded:NAME`` or a ``.npz``, ``.csv`` or ``.jsonl`` file.
        model: the model that is to read it; its classes give the order of the labels.
        seed: seed of the split, where the data has none.
        needs: splits that must be there.

    Returns:
        The data set.

    Raises:
        InputError: if there is no such data.
        DataError: if the data is malformed or does not fit the model.
        MissingExtraError: if a named set needs a package that is not installed.
    """
    config = model.config if isinstance(model, SequenceModel) else None
    loaded = data.load_data(
        spec,
        seed=seed,
        classes=(config.classes or None) if config else None,
        task=config.task if config else None,
        needs=needs,
    )
    if config is not None:
        data.check_fits(
            loaded,
            channels=config.channels,
            vocabulary=config.vocabulary,
            outputs=config.outputs,
            task=config.task,
        )
    return loaded


def score(model: nn.Module, criterion: Criterion) -> Scores:
    """Score every state of a model.

    Args:
        model: any module with S5 or S4D layers inside; it is not changed.
        criterion: e.g. ``ssmith.criteria.LAST()``.

    Returns:
        One score per state, larger is kept longer.

    Raises:
        ModelError: if there is no state space layer.
        NumericalError: if a weight is not finite.
    """
    return criterion(families.modes_of(model))


def plan(model: nn.Module, criterion: Criterion, budget: Budget) -> Plan:
    """Decide what to cut: ``decide(score(model, criterion), budget)``.

    Args:
        model: any module with S5 or S4D layers inside; it is not changed.
        criterion: e.g. ``ssmith.criteria.LAST()``.
        budget: e.g. ``ssmith.Budget(states=0.33)``.

    Returns:
        The plan: which states stay.

    Raises:
        PlanError: if the budget cannot be met.
        NumericalError: if a weight is not finite.
    """
    return decide(score(model, criterion), budget, model)


def decide(scores: Scores, budget: Budget, model: nn.Module) -> Plan:
    """Turn scores and a budget into a plan for a model (see `plan`)."""
    return allocate.allocate(scores, budget, model_digest=families.model_digest(model))


def measure(
    model: nn.Module,
    part: Sequences,
    metric: Metric | None = None,
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Estimate:
    """Measure a model's quality on some sequences, with its interval.

    Args:
        model: a sequence model.
        part: one split of a data set, e.g. ``data.split("test")``.
        metric: accuracy for classes, mean absolute error for real targets if None.
        seed: of the bootstrap, where the interval is one.
        batch_size: sequences per forward pass.

    Returns:
        The metric with its interval.

    Raises:
        ModelError: if no metric is given and the model does not say what it predicts.
        NumericalError: if an output is not finite.
    """
    chosen = metric or _metric_for(model)
    outcomes = chosen.per_sequence(evaluate.predict(model, part, batch_size), part.y)
    return evaluate.estimate(outcomes, chosen, seed=seed)


def compare(
    before: nn.Module,
    after: nn.Module,
    part: Sequences,
    metric: Metric | None = None,
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> Comparison:
    """Compare two models on the same sequences, in pairs (see `Comparison`).

    Args:
        before: the first model.
        after: the second model.
        part: one split of a data set.
        metric: as in `measure`.
        seed: of resampling.
        batch_size: sequences per forward pass.

    Returns:
        Both metrics, their difference with its interval, and a test.

    Raises:
        ModelError: as in `measure`.
        NumericalError: as in `measure`.
    """
    chosen = metric or _metric_for(before)
    outcomes = [
        chosen.per_sequence(evaluate.predict(model, part, batch_size), part.y)
        for model in (before, after)
    ]
    return evaluate.compare_outcomes(outcomes[0], outcomes[1], chosen, seed=seed)


def parity(
    masked: nn.Module, shrunk: nn.Module, saved: str | Path, part: Sequences
) -> ParityReport:
    """Check that three ways to the same model agree: shrunk = masked, step = scan, saved = loaded.

    Args:
        masked: the dense model with the removed states masked.
        shrunk: the model with the states removed.
        saved: where the shrunk model was saved.
        part: sequences to compare on; the first few are used.

    Returns:
        The largest absolute differences in float64.
    """
    few = part.first(PARITY_SEQUENCES)
    return evaluate.ParityReport(
        checks=(
            evaluate.check(
                "shrunk_vs_masked", lambda: evaluate.forward_difference(masked, shrunk, few)
            ),
            evaluate.check("step_vs_scan", lambda: evaluate.step_vs_scan(shrunk, few)),
            evaluate.check(
                "saved_vs_loaded",
                lambda: evaluate.forward_difference(shrunk, load(saved), few),
                tolerance=0.0,
            ),
        )
    )


def _metric_for(model: nn.Module) -> Metric:
    if not isinstance(model, SequenceModel):
        raise ModelError(
            f"{type(model).__name__} does not say what it predicts",
            next_step="pass a metric, e.g. ssmith.evaluate.ACCURACY",
        )
    return evaluate.default_metric(model.config.task)
