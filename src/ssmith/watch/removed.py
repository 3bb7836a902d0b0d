"""What was removed from a layer, on any rows: the statistic that decided the cut, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from ssmith.calibrate.sites import LTIView, View, view_of
from ssmith.calibrate.sums import ROWS, states_of
from ssmith.core.layers import STATE, Modes
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments
from ssmith.core.plan import Cut, Plan
from ssmith.core.regression import solve_kept, system_of
from ssmith.core.selective import ENTRY, STORED_A_LOG
from ssmith.families import LTILayer, sites
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.ops.precision import widened
from ssmith.ops.selective_scan import ScanInputs, selective_scan

Energies = tuple[Float64[Tensor, "b"], Float64[Tensor, "b"]]
"""Per row: energy of what was removed, and of the whole output it was part of."""
RIDGE = 1e-9
WEIGHT = "weight"
PROJECTIONS = ("in_proj", "x_proj", "dt_proj", "out_proj")


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What a plan takes from one site of the dense model: what stays, in the dense model's grid.

    Weights that stay are by name of a projection inside; ``semantics`` is what a cut entry does.
    """

    site: str
    state: Bool[Tensor, "..."] | None = None
    entry: Bool[Tensor, "e n"] | None = None
    semantics: str = ""
    weights: Mapping[str, Bool[Tensor, "..."]] = field(default_factory=dict)


def removed_by(plan: Plan, model: nn.Module) -> tuple[dict[str, Removed], dict[str, str]]:
    """Read from a plan what it takes from each site of the dense model that it was made for.

    What is measured, by site; and what is not, with the reason, by site or unit.
    """
    there = sites(model)
    found: dict[str, Removed] = {}
    left: dict[str, str] = {}
    for cut in plan.cuts:
        for target, keep in cut.keep.items():
            name = next((s for s in there if target == s or target.startswith(f"{s}.")), "")
            known = _KNOWN.get(cut.unit)
            if not name:
                left[target] = f"the dense model has no layer {target}"
            elif known is None or not isinstance(there[name].view(), known.views):
                left[target] = f"what a removed {cut.unit} carries is not known for such a layer"
            elif known is _KNOWN[WEIGHT] and _part(target) not in PROJECTIONS:
                left[target] = f"{_part(target)} is no linear layer"
            else:
                before = found.get(name, Removed(site=name))
                found[name] = known.joined(before, cut, target, keep)
    return found, left


def _part(target: str) -> str:
    """Return the name of the module that a weight belongs to."""
    return target.rpartition(".")[0].rpartition(".")[2]


def _with_weights(before: Removed, cut: Cut, target: str, keep: Tensor) -> Removed:
    del cut
    return replace(before, weights={**before.weights, _part(target): keep})


def _with_entries(before: Removed, cut: Cut, target: str, keep: Tensor) -> Removed:
    """Add a cut of entries; its grid is of the states that cuts before left."""
    del target
    if before.state is not None:
        whole = keep.new_ones(len(keep), len(before.state))
        whole[:, before.state] = keep
        keep = whole
    if before.entry is not None:
        keep = keep & before.entry
    return replace(before, entry=keep, semantics=cut.semantics)


def _with_states(before: Removed, cut: Cut, target: str, keep: Tensor) -> Removed:
    """Add a cut of states; its grid is of the states that cuts before left."""
    del cut, target
    if before.state is not None and keep.numel() != before.state.numel():
        whole = before.state.clone().reshape(-1)
        whole[whole.clone()] = keep.reshape(-1)
        keep = whole.reshape(before.state.shape)
    return replace(before, state=keep)


@dataclass(frozen=True)
class _Known:
    """A unit whose removed part can be measured in some views; ``joined`` adds a cut to others."""

    views: tuple[type, ...]
    joined: Callable[[Removed, Cut, str, Tensor], Removed]


_KNOWN = {
    STATE: _Known((LTILayer, SelectiveLayer), _with_states),
    ENTRY: _Known((SelectiveLayer,), _with_entries),
    WEIGHT: _Known((SelectiveLayer,), _with_weights),
}


@torch.no_grad()
def removed_energy(
    removed: Removed,
    module: nn.Module,
    given: Float[Tensor, "b l m"],
    valid: Bool[Tensor, "b l"] | None,
    widths: Float[Tensor, "b l"] | None = None,
) -> dict[str, Energies]:
    """Return what the removed part of a site would have given for some rows, by place in the site.

    S5 and S4D: the output of the removed states. Mamba: what the gated output changes by where
    states are gone or entries cut, channels weighted with ‖W_out[:, e]‖²; over all rows that is the
    quadratic form ``1ᵀ G[S, S] 1`` by which Gram criteria choose. Weights of its projections: the
    output of the removed ones; over all rows ``tr(ΔW H ΔWᵀ)``, H the moments of the inputs. The
    place of states is ``""``, of a projection its name. ``widths`` are those of uneven steps.
    """
    view: View = view_of(removed.site, module)
    on = torch.ones(given.shape[:2], dtype=torch.bool) if valid is None else valid.cpu()
    if isinstance(view, LTIView):
        return {"": _of_modes(removed, view.modes(), given, on, widths)}
    if not isinstance(view, SelectiveLayer):
        raise NotImplementedError(f"what a cut of {removed.site} carries is not known")
    parts = view.parts(given, valid)
    scan = widened(parts.scan)
    whole, found = selective_scan(scan)[0], dict[str, Energies]()
    if removed.state is not None or removed.entry is not None:
        lacking = whole - selective_scan(cut_scan(scan, removed))[0]
        weight = view.weights().out_energy.to(lacking)
        found[""] = (_energy(lacking, weight, on), _energy(whole, weight, on))
    reads = {"in_proj": given, "x_proj": parts.x, "dt_proj": parts.rank, "out_proj": whole}
    for name, keep in removed.weights.items():
        weight = view.part(name).weight.double()
        outputs = [
            reads[name].double() @ part.T for part in (weight * ~keep.to(weight.device), weight)
        ]
        ones = weight.new_ones(len(weight))
        found[name] = (_energy(outputs[0], ones, on), _energy(outputs[1], ones, on))
    return found


def cut_scan(scan: ScanInputs, removed: Removed) -> ScanInputs:
    """Return the scan of a dense mixer with its states and entries cut, nothing refitted."""
    A, B, C = scan.A, scan.B, scan.C
    h0, offset = scan.h0, scan.h_offset
    if removed.entry is not None:
        cut = -torch.tensor(STORED_A_LOG[removed.semantics]).exp().to(A)
        A = torch.where(removed.entry.to(A.device), A, cut)
    if removed.state is not None:
        keep = removed.state.to(A.device)
        A, B, C = A[:, keep], B[..., keep], C[..., keep]
        h0 = None if h0 is None else h0[..., keep]
        offset = None if offset is None else offset[:, keep]
    return replace(scan, A=A.contiguous(), B=B.contiguous(), C=C.contiguous(), h0=h0,
                   h_offset=offset)  # fmt: skip


def _energy(
    y: Float[Tensor, "b l e"], weight: Float[Tensor, "e"], on: Bool[Tensor, "b l"]
) -> Float64[Tensor, "b"]:
    return ((y.square() @ weight).double().cpu() * on).sum(1)


def _of_modes(
    removed: Removed,
    modes: Modes,
    given: Float[Tensor, "b l m"],
    on: Bool[Tensor, "b l"],
    widths: Float[Tensor, "b l"] | None,
) -> Energies:
    assert removed.state is not None
    gone = modes.present & ~removed.state.reshape(-1)
    parts = []
    for chosen in (gone, modes.present):
        some = modes.only(chosen)
        rows = [
            _rows_of(
                some,
                given[index].double().cpu(),
                on[index],
                None if widths is None else widths[index],
            )
            for index in _blocks(len(given), given.shape[1] * max(1, some.count))
        ]
        parts.append(torch.cat(rows))
    return parts[0], parts[1]


def _rows_of(
    modes: Modes,
    u: Float64[Tensor, "b l m"],
    on: Bool[Tensor, "b l"],
    widths: Float[Tensor, "b l"] | None,
) -> Float64[Tensor, "b"]:
    """Return the energy of what some states give, by row."""
    if not modes.count:
        return torch.zeros(len(u), dtype=torch.float64)
    layout = Layout.of(modes)
    front, back = states_of(modes, u, widths)
    z = layout.features(front.flatten(0, 1), None if back is None else back.flatten(0, 1))
    y = z @ layout.weight(modes.C, modes.C_back)
    energy = y.square().sum((0, 2)).view(on.shape)
    return (energy * on).sum(1)


def _blocks(rows: int, per_row: int) -> Iterator[Tensor]:
    yield from torch.arange(rows).split(max(1, ROWS // max(1, per_row)))


def refit_cost(modes: Modes, moments: Moments, keep: Bool[Tensor, "..."]) -> float:
    """Return what a layer of S5 or S4D lacks without its removed states, at best, as a share.

    With W the read-out and G the Gram of the states, K what stays and R what is gone, it is ``tr
    W_Rᵀ (G_RR − G_RK G_KK⁻¹ G_KR) W_R`` as a share of ``tr Wᵀ G W``: what State-OBS adds up along
    its order. In [0, 1] but for rounding; 0 of a layer without output.
    """
    layout = Layout.of(modes)
    system = system_of(layout, modes, moments, RIDGE)
    kept = layout.place(keep.reshape(-1) & modes.present)
    features = kept.repeat_interleave(layout.parts, dim=-1)
    gone = system.weight * ~features.unsqueeze(-1)
    change = solve_kept(system.gram, system.gram @ gone, features)
    lacking = gone - change
    whole = float((system.weight * (system.gram @ system.weight)).sum())
    return float((lacking * (system.gram @ lacking)).sum()) / whole if whole > 0 else 0.0
