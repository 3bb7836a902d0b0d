"""The verb `plan`: what a model, budgets and data make of one another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ssmith.calibrate import PassConfig
from ssmith.core.budget import AUTO, Budget, Target
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.findings import Finding
from ssmith.core.names import spelled
from ssmith.core.plan import Plan
from ssmith.core.progress import Progress, silent
from ssmith.core.rows import Rows, as_rows
from ssmith.families import LTILayer, Site, model_digest
from ssmith.families.absent import held, source_of
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.registry import find_selective
from ssmith.families.routed import ExpertLayer
from ssmith.spine.absorb import Absorber
from ssmith.spine.across import Across, no_such_unit, sites_with
from ssmith.spine.blockwise import check_by_block
from ssmith.spine.choice import SELECTIVE, choose
from ssmith.spine.depth import BLOCK, plan_blocks
from ssmith.spine.expert_neurons import choose_neuron_cut, neuron_stages
from ssmith.spine.experts import choose_expert_cut, expert_stages
from ssmith.spine.grouped import OF_GROUPS, choose_cut, for_layers, group_stages
from ssmith.spine.layered import LayerCut
from ssmith.spine.losses import held_out, loss_on
from ssmith.spine.lti import StatePlanner, method_of
from ssmith.spine.outputs import choose_output_cut, plan_outputs
from ssmith.spine.passes import plan_sites
from ssmith.spine.reach import share_that_reaches
from ssmith.spine.selective import STABILITY, STAGES, can_refit, plan_selective
from ssmith.spine.tables import METHODS, plan_by_table
from ssmith.surgery import prune_
from ssmith.units import unit_named

LTI, MIXER, GROUPED = "lti", "selective", "grouped"
OUTPUT, EXPERT, INNER, TABLE = "output", "expert", "expert_neuron", "table"
"""Which planner knows a unit of a layer; blocks have one of their own."""
_MEASURED: dict[str, tuple[Callable[[Budget], LayerCut[Any]], Callable[..., Plan]]] = {
    GROUPED: (choose_cut, partial(plan_sites, stages=group_stages)),
    OUTPUT: (choose_output_cut, plan_outputs),
    EXPERT: (choose_expert_cut, partial(plan_sites, stages=expert_stages)),
    INNER: (choose_neuron_cut, partial(plan_sites, stages=neuron_stages)),
}  # fmt: skip
"""What a budget is read as, and who meets it, where tables alone are a baseline."""


def plan(
    model: nn.Module,
    budgets: Budget | Iterable[Budget],
    data: Any = None,
    *,
    run: PassConfig | None = None,
    progress: Progress = silent,
) -> Plan:
    """Decide what goes from a model, and every new value of what stays.

    The budgets are met one after the other, each on what the ones before left; those of one
    family of layers share one pass over the data.

    Args:
        model: any network with state space layers inside; it is not changed.
        budgets: one or more, e.g. ``ssmith.Budget("state", 0.5)``.
        data: calibration rows: sequences, windows of text, or any iterable of batches (see
            `ssmith.rows`); None for methods that need none.
        run: batch size, working directory and order of the pass.
        progress: listener.

    Returns:
        A plan that is complete: ``prune_(model, plan)`` makes the very model it came from.

    Raises:
        InputError: if a budget names a unit, method or setting that there is not, or cannot be
            met, or needs data and there is none.
        PlanError: if what must stay is more than a budget keeps.
        UnsupportedError: if the model has no layer with that unit.
        NumericalError: if a number leaves the finite ones.
    """
    wanted = [budgets] if isinstance(budgets, Budget) else list(budgets)
    if not wanted:
        raise InputError("there is no budget", allowed='one or more, e.g. Budget("state", 0.5)')
    for unit in (unit for budget in wanted for unit in budget.units):
        unit_named(unit)
    if source_of(model) is not None:
        check_by_block(wanted)
    rows = None if data is None else as_rows(data)
    config = run or PassConfig()
    across = Across(model=model, rows=rows, config=config, progress=progress, decide=plan)
    for budget in wanted:
        alone = len(budget.units) == 1
        across.met.extend([_reached(model, budget, rows)] if alone else across.shared(budget))
    wanted = across.met
    work, found = model, list[Plan]()
    if any(unit_named(budget.unit).whole for budget in wanted[1:]):
        raise InputError(
            "blocks are to go after other units", allowed="a budget of blocks as the first one",
            next_step="give it first: what is left is then cut on what the fewer blocks hand on",
        )  # fmt: skip
    groups = _groups(model, wanted)
    if config.work_dir and not any(_goes_on(kind, group[0], rows) for kind, group in groups):
        raise InputError(
            "work_dir is given, and nothing is measured layer by layer that could be kept there",
            next_step="leave it out, or choose a method that measures or refits layer by layer",
        )
    for number, (kind, group) in enumerate(groups):
        own = _within(config, number) if len(groups) > 1 or across.facts else config
        found.append(_decide(work, kind, group, rows, config=own, progress=progress))
        if len(groups) > 1:
            work = copy.deepcopy(work)
            prune_(work, found[-1])
    return _joined(found, work, across.facts)


def label_of(model: nn.Module, budgets: Sequence[Budget]) -> str:
    """Return what meets some budgets that go together, in words; raises for what has no meaning."""
    ((kind, group),) = _groups(model, budgets)
    if kind == LTI:
        return method_of(group[0], has_data=True).label
    if kind in _MEASURED:
        return _measured_cut(kind, group[0], sites_with(model, group[0])).label
    if kind == TABLE:
        return METHODS.get(spelled(group[0].method), METHODS["magnitude"])
    layers = find_selective(model).values()
    return choose(group, refits=all(map(can_refit, layers))).label


def _within(config: PassConfig, number: int) -> PassConfig:
    """Return a pass with a working directory of its own."""
    if config.work_dir is None:
        return config
    return replace(config, work_dir=config.work_dir / f"cut-{number + 1}")


def outline(model: nn.Module, budgets: Sequence[Budget]) -> Plan:
    """Return a plan of the sizes that budgets lead to if all layers lose alike, by chance.

    Nothing is measured: it says what will open the result. Units that are only masked, whole blocks
    and targets are left out.
    """
    cuts = []
    for budget in budgets:
        if isinstance(budget.sparsity, Target):
            continue
        unit = unit_named(budget.unit)
        if "shrink" not in unit.modes or unit.whole:
            continue
        kind = _planner(model, budget)
        like = Budget(budget.unit, budget.sparsity, method="random")
        (cut,) = plan_by_table(model, sites_with(model, budget), like).cuts
        choice = _MEASURED[kind][0](budget) if kind in _MEASURED else None
        cuts.append(cut if choice is None else replace(cut, semantics=choice.semantics))
    return Plan(cuts=tuple(cuts), model_digest="")


def _groups(model: nn.Module, budgets: Sequence[Budget]) -> list[tuple[str, list[Budget]]]:
    """Return budgets that are met together, by planner: those of selective layers share a pass."""
    found: list[tuple[str, list[Budget]]] = []
    for budget in budgets:
        kind = _planner(model, budget)
        if found and kind == found[-1][0] == MIXER:
            found[-1][1].append(budget)
        else:
            found.append((kind, [budget]))
    return found


def _joined(found: Sequence[Plan], made: nn.Module, across: Sequence[Any]) -> Plan:
    """Return plans that follow one another as one plan for the model of the first.

    ``made`` is what they make of it: a value that a later one cut is as it is there.
    """
    values: dict[str, Any] = {}
    facts: dict[str, Any] = {"across": list(across)} if across else {}
    for part in found:
        values |= part.values
        # Of stages each cut has its own; of the stability of a unit's choice the last cut tells.
        stages = [*facts.get(STAGES, ()), *part.facts.get(STAGES, ())]
        stability = {**facts.get(STABILITY, {}), **part.facts.get(STABILITY, {})}
        facts |= part.facts
        facts |= {STAGES: stages} if stages else {}
        facts |= {STABILITY: stability} if stability else {}
    if len(found) > 1:
        sizes = {name: value.shape for name, value in made.state_dict().items()}
        for name in [name for name in values if values[name].shape != sizes.get(name)]:
            owner, _, last = name.rpartition(".")
            with held(made, owner) as module:
                values[name] = module.state_dict()[last].detach().cpu().clone()
    return Plan(
        cuts=tuple(cut for part in found for cut in part.cuts),
        values=values,
        model_digest=found[0].model_digest,
        findings=tuple(finding for part in found for finding in part.findings),
        facts=facts,
    )


def _planner(model: nn.Module, budget: Budget) -> str:
    """Return which planner meets a budget; raises if there is none."""
    if unit_named(budget.unit).whole:
        return BLOCK
    chosen = sites_with(model, budget).values()
    if not chosen:
        raise no_such_unit(model, budget)
    views = {_kind(site, budget) for site in chosen}
    if len(views) > 1:
        raise UnsupportedError(
            f"{budget.unit} stands for layers of two kinds in {type(model).__name__}",
            allowed="targets of one kind",
            next_step="give one budget for each, with targets",
        )
    return views.pop()


def _kind(site: Site, budget: Budget) -> str:
    """Return which planner knows a unit of a layer; its table alone where none does."""
    view = site.view()
    if isinstance(view, LTILayer):
        return LTI
    if isinstance(view, SelectiveLayer) and budget.unit in SELECTIVE:
        return MIXER
    if spelled(budget.method) in METHODS:
        return TABLE
    if isinstance(view, GroupedLayer) and budget.unit in OF_GROUPS:
        return GROUPED
    if isinstance(view, ExpertLayer):
        inside = any(item.each for item in site.coupling(budget.unit).slices)
        return INNER if inside else EXPERT
    read = any(item.output for item in site.couplings if item.unit == budget.unit)
    return OUTPUT if read else TABLE


def reads_data(model: nn.Module, budgets: Sequence[Budget]) -> bool:
    """Return whether any of some budgets is met by what data say."""
    return any(len(budget.units) > 1 for budget in budgets) or any(
        method_of(group[0], has_data=True).needs_data if kind == LTI else kind != TABLE
        for kind, group in _groups(model, budgets)
    )


def _measured_cut(kind: str, budget: Budget, there: Mapping[str, Site]) -> LayerCut[Any]:
    """Return what a budget asks of some sites by a planner that measures."""
    cut = _MEASURED[kind][0](budget)
    return for_layers(cut, [site.view() for site in there.values()]) if kind == GROUPED else cut


def _tested(cut: LayerCut[Any], rows: Rows) -> tuple[LayerCut[Any], tuple[Finding, ...]]:
    """Return a cut without refits that nobody named where no second row can test them."""
    if not cut.terms or cut.budget.compensate != AUTO or len(rows) > 1:
        return cut, ()
    message = (
        f"{cut.budget.unit}: nothing is refitted, as there is a single row and no other to test "
        "a refit on; give more samples"
    )
    return replace(cut, terms=""), (Finding(layer="", kind="few-samples", message=message),)


def _by_table(kind: str, budget: Budget, rows: Rows | None) -> bool:
    """Return whether a table alone decides: by name, or as no method is named and no data given."""
    unseen = rows is None and spelled(budget.method) == AUTO
    return kind == TABLE or (kind in _MEASURED and unseen)


def _goes_on(kind: str, budget: Budget, rows: Rows | None) -> bool:
    """Return whether what is done layer by layer can be kept, and gone on from after a kill."""
    if kind == LTI:
        return method_of(budget, has_data=rows is not None).by_layer
    return not _by_table(kind, budget, rows)


def _decide(
    model: nn.Module,
    kind: str,
    budgets: Sequence[Budget],
    rows: Rows | None,
    *,
    config: PassConfig,
    progress: Progress,
) -> Plan:
    budget = budgets[0]
    if _by_table(kind, budget, rows):
        return plan_by_table(model, sites_with(model, budget), budget, model_digest(model))
    if kind in _MEASURED:
        there = sites_with(model, budget)
        cut = _measured_cut(kind, budget, there)
        if rows is None:
            raise InputError(
                f"{budget.unit} is cut by {budget.method} on data, and there is none",
                allowed=f"data, or the methods {' and '.join(METHODS)}",
            )
        cut, untested = _tested(cut, rows)
        made = _MEASURED[kind][1](model, there, cut, rows, config=config, progress=progress)
        return replace(made, findings=(*untested, *made.findings))
    if kind == MIXER:
        if rows is None:
            raise InputError(
                "selective layers are cut on data, and there is none",
                next_step="give rows of the kind the model was trained on",
            )
        return plan_selective(model, budgets, rows, config, progress)
    if kind == BLOCK:
        seen, absorber = "" if rows is None else rows.fingerprint, None
        identity = {"model": model_digest(model), "rows": seen}
        if rows is not None and budget.terms:
            fitted, rows = held_out(rows)
            absorber = Absorber(dense=model, rows=fitted, batch_size=config.at_once())
            identity["compensate"] = "O"
        return plan_blocks(
            model, budget, loss_on(model, rows, config.batch_size), absorber=absorber,
            identity=identity, work_dir=config.work_dir, progress=progress,
        )  # fmt: skip
    method = method_of(budget, has_data=rows is not None)
    return StatePlanner(model, method, rows, config, progress).plan(budget)


def _reached(model: nn.Module, budget: Budget, rows: Rows | None) -> Budget:
    """Return a budget whose target, if it has one, is the share that reaches it."""
    if not isinstance(budget.sparsity, Target):
        return budget
    return replace(budget, sparsity=share_that_reaches(model, budget, budget.sparsity, rows))
