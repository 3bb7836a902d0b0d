"""A pass that cuts one kind of unit layer by layer, and the plan of what it decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.calibrate import PassConfig, Stage, passage_of, run_pass
from ssmith.calibrate.stages import Stages
from ssmith.core.plan import Cut, Plan
from ssmith.core.progress import Progress
from ssmith.core.rows import Rows
from ssmith.families import Site, model_digest
from ssmith.families.state import SiteState
from ssmith.spine.layered import LayerCut, kept_for
from ssmith.spine.selective import facts_of, findings_of, refuse_adapters
from ssmith.spine.tables import removed_counts
from ssmith.surgery import new_values

Tensors = Mapping[str, Tensor]
States = Mapping[str, SiteState]
Masks = Mapping[str, Bool[Tensor, "..."]]


@dataclass(frozen=True, kw_only=True)
class LayerPass:
    """A pass over some modules of a model, each of which is cut behind those before it.

    ``modules`` are what the pass watches, sites or what stands in them; ``what`` is told of it.
    """

    model: nn.Module
    rows: Rows
    modules: Mapping[str, nn.Module]
    config: PassConfig
    progress: Progress
    what: str

    def plan(
        self,
        cut: LayerCut[Any],
        stages: Stages,
        after: Callable[[str, States, Masks], Tensors] | None = None,
    ) -> Plan:
        """Run it, and return what was decided.

        ``after`` says what a site's tensors are, given what became of the modules and which units
        stay; None where modules are sites.
        """
        refuse_adapters(self.model)
        unit, digest = cut.budget.unit, model_digest(self.model)
        found = run_pass(
            passage_of(self.model, self.rows, self.modules), stages,
            kept_for(self.config, digest, {unit: cut.as_dict()}), reference=cut.to_stream,
            progress=self.progress, what=self.what,
        )  # fmt: skip
        keep = {item.layer: item.keep[unit].cpu() for item in found.records if item.keep}
        cuts = (Cut(unit=unit, keep=keep, semantics=cut.semantics, **cut.as_dict()),)

        def tensors_of(site: str) -> Tensors:
            return found.states[site].tensors if after is None else after(site, found.states, keep)

        return Plan(
            cuts=cuts, values=new_values(self.model, cuts, tensors_of), model_digest=digest,
            facts=facts_of(found.records), findings=findings_of(found.records),
        )  # fmt: skip


SiteStages = Callable[[LayerCut[Any], Site, Any, int], Sequence[Stage]]
"""What is done to a view of a site from which so many units go."""


def plan_sites(
    model: nn.Module,
    there: Mapping[str, Site],
    cut: LayerCut[Any],
    rows: Rows,
    *,
    stages: SiteStages,
    config: PassConfig,
    progress: Progress,
) -> Plan:
    """Cut sites themselves: as many units go from each as the budget says."""
    budget = cut.budget
    tables = {name: site.coupling(budget.unit) for name, site in there.items()}
    counts = removed_counts(tables, budget)
    work = LayerPass(
        model=model, rows=rows, modules={name: site.module for name, site in there.items()},
        config=config, progress=progress, what=f"pruning {budget.unit}",
    )  # fmt: skip
    return work.plan(cut, lambda view: stages(cut, there[view.name], view, counts[view.name]))
