"""Reduce a layer by projection, and put what comes out into the places of states that stay."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from ssmith.core.compensation import RefitConfig
from ssmith.core.findings import Finding
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments
from ssmith.surgery.h2 import descend
from ssmith.surgery.reduction import balance, perturbed, stein, truncated
from ssmith.surgery.systems import Diagonal, RealSystem, diagonal_of, slots_needed, system_of_modes


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """What became of one layer.

    ``D_change`` is added to D at each channel; ``moved`` says whether eigenvalues are new in any
    part; ``condition`` is that of the eigenvectors, the largest of all parts; ``hankel`` holds the
    singular values of each part that was balanced.
    """

    modes: Modes
    D_change: Float64[Tensor, "m"]
    moved: bool
    condition: float
    hankel: tuple[Float64[Tensor, "_"], ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One system of a layer: all of a MIMO layer, one channel of a SISO one.

    ``there`` are the flat indices of its states, ``stay`` says which of them stay; ``reached``
    holds their second moments, ``seen`` the observability Gramian, outputs weighted by their
    sensitivity.
    """

    there: Int64[Tensor, "n"]
    stay: Bool[Tensor, "n"]
    plain: RealSystem
    reached: Float64[Tensor, "k k"]
    seen: Float64[Tensor, "k k"]

    @property
    def places(self) -> Int64[Tensor, "r"]:
        return self.there[self.stay]


@torch.no_grad()
def reduce_modes(
    modes: Modes, moments: Moments, keep: Bool[Tensor, "s"], config: RefitConfig, *, width: int
) -> Reduced:
    """Reduce a layer to as many states as a mask keeps, by projection.

    MIMO layers are reduced whole, SISO layers channel by channel. A bidirectional layer shares
    eigenvalues and input rows: it is reduced as one system with both read-outs stacked. Where the
    outcome is unstable, or its eigenvectors are worse conditioned than allowed, that part keeps
    the states of the mask, and a finding says so.

    The second moments stand for the controllability Gramian, so white moments give the textbook
    reduction and those of data weigh states by what they do; their sensitivity, where there is one,
    weighs the outputs.
    """
    if config.poles == "h2":
        return _descended(modes, keep, width)
    layout = Layout.of(modes)
    change = torch.zeros(width, dtype=torch.float64)
    now = replace(
        modes,
        A_bar=modes.A_bar.clone(),
        B_bar=modes.B_bar.clone(),
        C=modes.C.clone(),
        C_back=None if modes.C_back is None else modes.C_back.clone(),
        present=modes.present & keep,
        drift=None,
    )
    conditions, hankel, findings = [1.0], [], []
    for group in range(len(layout.slots)):
        part = _part(modes, layout, moments, group, keep)
        if not 0 < int(part.stay.sum()) < len(part.stay):
            continue
        small, values = _reduced(part, config)
        hankel += [] if values is None else [values]
        found = None if small is None else diagonal_of(small, layout.factor)
        if small is None or found is None or not found.condition <= config.worst_condition:
            findings.append(_not_reduced(modes, layout, group, found, config))
            continue
        conditions.append(found.condition)
        _put(now, found, part.places)
        own, lost = _direct(small.D, layout.directions)
        channel = slice(None) if layout.channel is None else layout.channel[group : group + 1]
        change[channel] += own
        findings += _lost_direct(modes.layer, lost)
    return Reduced(
        modes=now,
        D_change=change,
        moved=len(conditions) > 1,
        condition=max(conditions),
        hankel=tuple(hankel),
        findings=tuple(findings),
    )


def _descended(modes: Modes, keep: Bool[Tensor, "s"], width: int) -> Reduced:
    """Move the states that stay downhill; they stay diagonal, so their condition is one."""
    found, before, after = descend(modes, keep)
    return Reduced(
        modes=found,
        D_change=torch.zeros(width, dtype=torch.float64),
        moved=after < before,
        condition=1.0,
        hankel=(),
        findings=(),
    )


def _part(
    modes: Modes, layout: Layout, moments: Moments, group: int, keep: Bool[Tensor, "s"]
) -> _Part:
    slots = layout.slots[group]
    place = ((slots >= 0) & modes.present[slots.clamp(min=0)]).nonzero().flatten()
    there = slots[place]
    stay = keep[there]
    reads = [item[there] for item in (modes.C, modes.C_back) if item is not None]
    plain = system_of_modes(
        modes.A_bar[there], modes.B_bar[there], torch.cat(reads, dim=1), layout.factor
    )
    weighted = plain.W
    if moments.sensitivity is not None:
        values, vectors = torch.linalg.eigh(moments.sensitivity[group])
        root = (values.clamp(min=0).sqrt() * vectors).mT
        weighted = torch.block_diag(*[root] * layout.directions) @ plain.W
    n, d = len(slots), layout.directions
    tiles = moments.gram[group].view(n, d, 2, n, d, 2)[place][:, :, :, place]
    # Both directions hold the same states; on data they differ a little, so they are averaged.
    reached = torch.stack([tiles[:, k, :, :, k, :] for k in range(d)]).mean(0)
    return _Part(
        there=there,
        stay=stay,
        plain=plain,
        reached=reached.reshape(2 * len(there), 2 * len(there)),
        seen=stein(plain.F.mT, plain.F.mT, weighted.mT @ weighted),
    )


def _reduced(
    part: _Part, config: RefitConfig
) -> tuple[RealSystem | None, Float64[Tensor, "_"] | None]:
    """Return the largest stable system that fits into the slots, outputs as they are."""
    slots = int(part.stay.sum())
    shifted = config.poles == "perturbation"
    # Singular perturbation is of the system whose read-out is of the state before the input.
    seen = part.plain.F.mT @ part.seen @ part.plain.F if shifted else part.seen
    balanced = balance(part.plain, part.reached, seen)
    make = perturbed if shifted else truncated
    for order in range(min(2 * slots, balanced.system.order), slots - 1, -1):
        small = make(balanced, order)
        steady = bool(torch.isfinite(small.F).all())
        if not steady or float(torch.linalg.eigvals(small.F).abs().max()) >= 1:
            continue
        if slots_needed(small) <= slots:
            return small, balanced.hankel
    return None, balanced.hankel


def _put(now: Modes, found: Diagonal, places: Int64[Tensor, "r"]) -> None:
    """Write a diagonal system into its places; places it does not need are silent."""
    used, spare = places[: len(found.A)], places[len(found.A) :]
    now.A_bar[used], now.B_bar[used] = found.A, found.B
    now.B_bar[spare] = 0
    reads = [item for item in (now.C, now.C_back) if item is not None]
    for old, new in zip(reads, found.C.chunk(len(reads), dim=1), strict=True):
        old[used] = new
        old[spare] = 0


def _direct(D: Float64[Tensor, "o i"], directions: int) -> tuple[Tensor, float]:
    """Return the diagonal a layer can take, and the share of energy it cannot."""
    whole = torch.stack(D.chunk(directions)).sum(0)
    total = float((whole**2).sum())
    own = whole.diagonal()
    return own, 1.0 - float((own**2).sum()) / total if total > 0 else 0.0


def _lost_direct(layer: str, share: float) -> list[Finding]:
    if share <= 1e-9:
        return []
    return [
        Finding(
            layer=layer,
            kind="direct-part-lost",
            message=f"layer {layer}: singular perturbation adds a full direct part, of which the "
            f"layer's diagonal D cannot take {share:.0%} (by energy)",
        )
    ]


def _not_reduced(
    modes: Modes, layout: Layout, group: int, found: Diagonal | None, config: RefitConfig
) -> Finding:
    where = f"layer {modes.layer}"
    if layout.channel is not None:
        where += f", channel {int(layout.channel[group])}"
    why = "no stable reduced system has as few modes"
    if found is not None:
        why = (
            f"its eigenvectors have condition {found.condition:.3g}, "
            f"more than {config.worst_condition:g}"
        )
    return Finding(
        layer=modes.layer,
        kind="not-reduced",
        message=f"{where}: {why}; the states chosen stay, refitted, in place of a reduction",
    )
