"""The same rows a little wrong: what may come one day, so that its cost is known at release."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
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


def perturbed(rows: Rows, seed: int) -> Iterator[tuple[str, Rows]]:
    """Yield rows that are changed in one way each, with the targets they had.

    Series: noise, scale and shift in units of each channel's spread, smoothing, and a blend with
    another row. Tokens: some replaced by others of the same rows.

    Args:
        rows: of the profile.
        seed: of the noise.

    Yields:
        What was done, in words, and the rows; nothing for rows of another build.
    """
    if isinstance(rows, TokenWindows):
        for share in REPLACED:
            yield f"{share:.0%} of the tokens replaced", _replaced(rows, share, seed)
        return
    if not isinstance(rows, Sequences):
        return
    valid = torch.arange(rows.x.shape[1]) < rows.lengths[:, None]
    if not rows.x.is_floating_point():
        for share in REPLACED:
            ids = _exchanged(rows.x, valid, share, seed)
            yield f"{share:.0%} of the tokens replaced", replace(rows, x=ids)
        return
    for what, x in _series(rows.x, valid, seed):
        yield what, replace(rows, x=torch.where(valid[..., None], x, 0.0))


def _series(
    x: Float[Tensor, "b l c"], valid: Bool[Tensor, "b l"], seed: int
) -> Iterator[tuple[str, Tensor]]:
    spread, middle = x[valid].std(0), x[valid].mean(0)
    for size in NOISE:
        noise = torch.randn(x.shape, generator=generator(seed, f"noise {size}"))
        yield f"noise of {size:g} spreads", x + size * spread * noise
    for factor in SCALE:
        yield f"scaled by {factor:g}", middle + factor * (x - middle)
    for size in SHIFT:
        yield f"shifted by {size:+g} spreads", x + size * spread
    for width in SMOOTH:
        padded = torch.nn.functional.pad(x.mT, (width // 2, width // 2), mode="replicate")
        yield f"means of {width} steps", torch.nn.functional.avg_pool1d(padded, width, 1).mT
    other = torch.randperm(len(x), generator=generator(seed, "blend"))
    for share in BLEND:
        yield f"{share:.0%} of another row", (1 - share) * x + share * x[other]


def _replaced(rows: TokenWindows, share: float, seed: int) -> TokenWindows:
    valid = torch.arange(rows.ids.shape[1]) < rows.lengths[:, None]
    return replace(rows, ids=_exchanged(rows.ids, valid, share, seed))


def _exchanged(ids: Tensor, valid: Bool[Tensor, "b l"], share: float, seed: int) -> Tensor:
    stream = generator(seed, f"replaced {share}")
    chosen = (torch.rand(ids.shape, generator=stream) < share) & valid
    there = ids[valid]
    drawn = there[torch.randint(len(there), (int(chosen.sum()),), generator=stream)]
    changed = ids.clone()
    changed[chosen] = drawn
    return changed
