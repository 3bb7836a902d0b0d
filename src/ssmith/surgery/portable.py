"""Where a model that is pruned by a plan can be opened, known before it is cut."""

from __future__ import annotations

from torch import nn

from ssmith.core.plan import Plan
from ssmith.families import Site, hf_facts, sites


def portable(model: nn.Module, plan: Plan) -> str:
    """Return where a model that is pruned like this can be opened, in words.

    Args:
        model: the dense model.
        plan: what is removed.

    Returns:
        "yes" or "no", with the reason.
    """
    if not hf_facts(model):
        return "no; ssmith opens it, with the code of the network"
    names = set(model.state_dict())
    added = sorted(name for name in plan.values if name not in names)
    if added:
        return (
            f"no; {added[0]} is an offset that stock transformers does not know, only ssmith does"
        )
    there = sites(model)
    for cut in plan.cuts:
        if cut.unit == "block" or any(name not in there for name in cut.keep):
            continue
        tables = {name: there[name].coupling(cut.unit) for name in cut.keep}
        if all(table.modes[0] == "mask" for table in tables.values()):
            continue
        kept = {int(keep.sum()) for keep in cut.keep.values()}
        others = {name for name, site in there.items() if _has(site, cut.unit)} - set(cut.keep)
        if len(kept) > 1 or others:
            return (
                f"no; layers will hold unequal numbers of {cut.unit}, and only ssmith loads such a "
                "model"
            )
        if not all(table.config_keys for table in tables.values()):
            return f"no; stock configurations cannot say how many {cut.unit} there are"
    return "yes; stock transformers loads the result and gives the same logits"


def _has(site: Site, unit: str) -> bool:
    return any(item.unit == unit for item in site.couplings)
