"""Plans for selective layers: one pass over data, block by block, each behind the ones cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from ssmith.calibrate import Passage, PassConfig, PassResult, passage_of, run_pass
from ssmith.calibrate.sequential import store_of
from ssmith.calibrate.shards import Group
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.files import read_json, write_json
from ssmith.core.findings import Finding
from ssmith.core.layers import STATE
from ssmith.core.plan import Cut, Plan
from ssmith.core.progress import Progress
from ssmith.core.rows import Rows
from ssmith.core.selective import ENTRY, BlockRecord
from ssmith.core.tokens import TokenWindows
from ssmith.criteria.outputs import HELD
from ssmith.criteria.selective.refit import LARGEST_STATE
from ssmith.families import model_digest
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba.units import NORMALISED
from ssmith.families.parts.hooks import SLOT
from ssmith.families.registry import find_selective
from ssmith.spine.choice import Choice, choose
from ssmith.spine.layered import kept_for
from ssmith.spine.losses import loss_on
from ssmith.spine.shares import CostSurvey
from ssmith.spine.states import Counts, stages_of
from ssmith.spine.weights import WEIGHT
from ssmith.surgery import new_values

COUNTS = "counts.json"
STAGES, STABILITY = "stages", "stability"
"""What a plan's facts tell of a pass: what each stage found, and the least stable choices."""
_LEAST = 0.25
"""Share of a fit below which a user is told that there are too few rows for it."""
"""What surveys gave each layer, in a working directory, so that they are not run again."""


def plan_selective(
    model: nn.Module,
    budgets: Sequence[Budget],
    rows: Rows,
    config: PassConfig,
    progress: Progress,
) -> Plan:
    """Decide what is cut from selective layers; the model is not changed."""
    layers = find_selective(model)
    refuse_adapters(model)
    choice = choose(budgets, refits=all(map(can_refit, layers.values())))
    if isinstance(rows, TokenWindows):
        check_windows(rows, vocabulary_of(model), choice.label if choice.lockstep else "")
    digest = model_digest(model)
    config = kept_for(config, digest, choice.as_dict())

    def measure(part: Rows) -> Callable[[SelectiveLayer], float]:
        loss = loss_on(model, part)

        def measured(layer: SelectiveLayer) -> float:
            with swapped(model, layer.name, layer.mixer):
                found = loss(model)
            return math.log(found) if isinstance(part, TokenWindows) else found

        return measured

    survey = CostSurvey(
        rows=rows, config=config, progress=progress, measure=measure,
        sizes={name: (layer.e, layer.n) for name, layer in layers.items()},
        passage=lambda some: passage_of(model, some, list(layers)),
    )  # fmt: skip
    found = run_survey(survey, choice)
    cuts = cuts_of(found.records, choice)
    values = new_values(model, cuts, lambda name: found.states[name].tensors)
    first = next(iter(layers.values()))
    return Plan(
        cuts=cuts, values=values, model_digest=digest, facts=facts_of(found.records),
        findings=(*precheck(choice, first), *findings_of(found.records)),
    )  # fmt: skip


def run_survey(survey: CostSurvey, choice: Choice) -> PassResult:
    """CostSurvey the layers as far as needed, then cut them one after the other."""
    passage = survey.passage(survey.rows)
    counts = _counts(survey, choice, passage)
    return run_pass(
        passage,
        lambda layer: stages_of(choice, layer, counts),
        survey.config,
        progress=survey.progress,
        what="pruning blocks",
    )


def _counts(survey: CostSurvey, choice: Choice, passage: Passage) -> Counts:
    """Return what each layer loses; from the working directory if it holds that."""
    path = None
    if survey.config.work_dir is not None:
        store_of(survey.config, passage)
        path = survey.config.work_dir / COUNTS
        if path.is_file():
            return Counts.from_json(read_json(path), str(path))
    counts = survey.counts(choice)
    if path is not None and Group.current().rank == 0:
        write_json(path, counts.as_json())
    return counts


def can_refit(layer: SelectiveLayer) -> bool:
    """Return whether states of a layer can be refitted: C is not normalised, N is not huge."""
    return not layer.normalises and layer.n <= LARGEST_STATE


def precheck(choice: Choice, layer: SelectiveLayer) -> tuple[Finding, ...]:
    """Return what to know of a cut before it is made; ``layer`` is any layer of the model."""
    if choice.state is None or not layer.normalises:
        return ()
    return (Finding(layer="", kind="normalised", message=f"states: {NORMALISED}"),)


def refuse_adapters(model: nn.Module) -> None:
    """Refuse a model that carries adapters: what is measured would not be what is cut."""
    carriers = [name for name, part in model.named_modules() if SLOT in part._modules]
    if carriers:
        raise UnsupportedError(
            f"{carriers[0]} carries adapters",
            allowed="models without adapters",
            next_step="merge them with ssmith.merge_adapter_, or attach them after pruning",
        )


def check_windows(windows: TokenWindows, vocabulary: int, lockstep: str = "") -> None:
    """Raise unless a model can be calibrated on these windows; ``lockstep`` runs all at once."""
    largest = int(windows.ids.max())
    if largest >= vocabulary:
        raise InputError(
            f"{windows.name} has the token id {largest}, the model knows {vocabulary}",
            allowed=f"ids in [0, {vocabulary})",
            next_step="tokenise the text with the model's own tokeniser",
        )
    if lockstep and windows.pad_share > 0:
        raise InputError(
            f"{windows.pad_share:.1%} of the calibration windows is padding, and "
            f"{lockstep} combines windows step by step",
            allowed="windows of one length",
            next_step="give a longer text, or a shorter length",
        )


def vocabulary_of(model: Any) -> int:
    """Return how many token ids a model knows."""
    return int(model.get_input_embeddings().weight.shape[0])


@contextmanager
def swapped(model: nn.Module, name: str, part: nn.Module) -> Iterator[None]:
    """Let another module stand in a model inside the block."""
    own = model.get_submodule(name)
    model.set_submodule(name, part)
    try:
        yield
    finally:
        model.set_submodule(name, own)


def cuts_of(records: Sequence[BlockRecord], choice: Choice) -> tuple[Cut, ...]:
    """Return what a pass decided, in the order in which it is to be done."""
    found = []
    asked = choice.as_dict()
    for unit, cut in ((STATE, choice.state), (ENTRY, choice.entry)):
        keep = {item.layer: item.keep[unit].cpu() for item in records if unit in item.keep}
        if keep and cut is not None:
            found.append(Cut(unit=unit, keep=keep, semantics=cut.semantics, **asked[unit]))
    keep = {
        f"{item.layer}.{name}": mask.cpu()
        for item in records
        if item.stage == WEIGHT
        for name, mask in item.keep.items()
    }
    if keep:
        found.append(Cut(unit=WEIGHT, keep=keep, semantics="zero", **asked[WEIGHT]))
    return tuple(found)


def facts_of(records: Sequence[BlockRecord]) -> dict[str, Any]:
    """Return what was measured in a pass, JSON-ready: by stage, and the least stable layer."""
    stability = {}
    for stage in (STATE, ENTRY):
        measured = [item for item in records if item.stage == stage and item.facts.get(STABILITY)]
        if measured:
            worst = min(measured, key=lambda item: item.facts[STABILITY]["rank_correlation"])
            stability[stage] = {"worst_layer": worst.layer, **worst.facts["stability"]}
    return {
        STAGES: [{"name": item.layer, "stage": item.stage, **item.facts} for item in records],
        STABILITY: stability,
    }


def findings_of(records: Sequence[BlockRecord]) -> tuple[Finding, ...]:
    """Return what a user must be told about a pass."""
    whole = tuple(
        Finding(layer=item.layer, kind="whole", message=f"{item.layer}.{name} is left whole: {why}")
        for item in records
        for name, why in item.facts.get("whole", {}).items()
    )
    unstable = tuple(
        Finding(
            layer=item.layer,
            kind="unstable",
            message=(
                f"{item.layer}: two halves of the calibration text choose {item.stage} "
                f"differently (rank correlation {facts['rank_correlation']:.2f}, overlap "
                f"{facts['overlap']:.2f}, both should reach {facts['threshold']:g}); give more "
                "samples"
            ),
        )
        for item in records
        if (facts := item.facts.get(STABILITY)) and not facts["stable"]
    )
    return (*whole, *_weakly_refitted(records), *unstable)


def _weakly_refitted(records: Sequence[BlockRecord]) -> tuple[Finding, ...]:
    """Return that of the layer whose output map's refit holds least, if that is little."""
    shares = {item.layer: item.facts[HELD] for item in records if item.facts.get(HELD) is not None}
    least = min(shares, key=lambda name: shares[name], default="")
    if not shares or shares[least] >= _LEAST:
        return ()
    message = (
        f"{least}: of what refits its output map only {shares[least]:.0%} holds on other rows, "
        "least of all layers, and no more is made of it; give more samples"
    )
    return (Finding(layer=least, kind="few-samples", message=message),)
