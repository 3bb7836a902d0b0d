"""The same rows a little wrong: what may come one day, so that its cost is known at release."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ssmith.core.rows import Rows
from ssmith.core.seeds import generator
from ssmith.core.sequences import Sequences
from ssmith.core.tokens import TokenWindows

NOISE = (0.25, 0.5, 1.0)
SCALE = (0.5, 1.5, 2.5)
SHIFT = (-1.0, 1.0)
SMOOTH = (5,)
BLEND = (0.3, 0.5)
REPLACED = (0.03, 0.1, 0.3)
"""Share of tokens replaced by others of the same rows."""
SHUFFLED = 8
"""Steps that change places among each other."""


@dataclass(frozen=True, kw_only=True)
class Perturbed:
    """Rows that are changed in one way, with the targets they had; of text the next tokens now.

    The same kind comes in several sizes; ``what`` was done is in words.
    """

    kind: str
    what: str
    rows: Rows


def perturbed(rows: Rows, seed: int) -> Iterator[Perturbed]:
    """Yield rows that are changed in one way each; nothing for rows of another build.

    Series: noise, scale and shift in units of each channel's spread, smoothing, and a blend with
    another row. Tokens: some replaced by others of the same rows, and the end of another row. Both:
    turned round, slower, and in another order.
    """
    if not isinstance(rows, TokenWindows | Sequences):
        return
    x = rows.ids if isinstance(rows, TokenWindows) else rows.x
    valid = torch.arange(x.shape[1]) < rows.lengths[:, None]
    changes = _series if x.is_floating_point() else _tokens
    for make in (changes, _orders):
        for kind, what, changed in make(x, valid, seed):
            there = valid[..., None] if x.ndim > 2 else valid
            kept = torch.where(there, changed, x)
            if isinstance(rows, TokenWindows):
                yield Perturbed(kind=kind, what=what, rows=replace(rows, ids=kept))
            else:
                yield Perturbed(kind=kind, what=what, rows=replace(rows, x=kept))


_Made = Iterator[tuple[str, str, Tensor]]


def _series(x: Float[Tensor, "b l c"], valid: Bool[Tensor, "b l"], seed: int) -> _Made:
    spread, middle = x[valid].std(0), x[valid].mean(0)
    for size in NOISE:
        noise = torch.randn(x.shape, generator=generator(seed, f"noise {size}"))
        yield "noise", f"noise of {size:g} spreads", x + size * spread * noise
    for factor in SCALE:
        yield "scale", f"scaled by {factor:g}", middle + factor * (x - middle)
    for size in SHIFT:
        yield "shift", f"shifted by {size:+g} spreads", x + size * spread
    for width in SMOOTH:
        padded = torch.nn.functional.pad(x.mT, (width // 2, width // 2), mode="replicate")
        means = torch.nn.functional.avg_pool1d(padded, width, 1).mT
        yield "smooth", f"means of {width} steps", means
    other = torch.randperm(len(x), generator=generator(seed, "blend"))
    for share in BLEND:
        yield "blend", f"{share:.0%} of another row", (1 - share) * x + share * x[other]


def _tokens(ids: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"], seed: int) -> _Made:
    there = ids[valid]
    for share in REPLACED:
        stream = generator(seed, f"replaced {share}")
        chosen = (torch.rand(ids.shape, generator=stream) < share) & valid
        drawn = there[torch.randint(len(there), (int(chosen.sum()),), generator=stream)]
        changed = ids.clone()
        changed[chosen] = drawn
        yield "replaced", f"{share:.0%} of the tokens replaced", changed
    other = ids[torch.randperm(len(ids), generator=generator(seed, "blend"))]
    late = torch.arange(ids.shape[1]) >= valid.sum(1, keepdim=True) // 2
    yield "blend", "the end of another row", torch.where(late, other, ids)


def _orders(x: Tensor, valid: Bool[Tensor, "b l"], seed: int) -> _Made:
    """Yield the same steps at other places."""
    last, place = valid.sum(1, keepdim=True) - 1, torch.arange(x.shape[1])
    drawn = torch.rand(x.shape[:2], generator=generator(seed, "order"))
    # Sorted by block, then by a draw: steps stay within their block.
    mixed = (place // SHUFFLED + drawn).argsort(1)
    orders = {"turned round": last - place, "half as fast": place.expand(x.shape[:2]) // 2,
              f"{SHUFFLED} steps each in another order": mixed.minimum(last)}  # fmt: skip
    for what, order in orders.items():
        index = order.clamp(min=0)
        index = index[..., None] if x.ndim > 2 else index
        yield what, what, torch.take_along_dim(x, index, 1)
