"""Bets on the mean of bounded observations: what they win, row by row, for many streams at once.

Observations lie in [0, 1] here. A bettor who thinks that the mean is above m stakes a share λ on
every next observation; if the mean is m, nobody can expect to win, so that a large capital is
evidence against m, whenever one looks (Ville: the chance that it ever reaches 1 / α is at most α).

Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", Journal of
the Royal Statistical Society B 86 (2024): equations 26 (hedged capital) and 27 (predictable
plug-in bets), theorem 2 (empirical Bernstein).
Differs: the two capitals are averaged where the paper's theorem 3 takes the larger one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

SHARE = 0.5
"""Most that is staked of what could be lost at once (c of the paper)."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What bets and the closed form remember of each of ``s`` streams: sums of observations.

    Squares are distances from the mean estimated then; bets and penalties are of the closed form.
    """

    count: int
    total: Float64[Tensor, "s"]
    squares: Float64[Tensor, "s"]
    bets: Float64[Tensor, "s"]
    betted: Float64[Tensor, "s"]
    penalty: Float64[Tensor, "s"]

    @staticmethod
    def nothing(streams: int = 1) -> Seen:
        """Return what is remembered before the first observation."""
        zero = torch.zeros(streams, dtype=torch.float64)
        return Seen(count=0, total=zero, squares=zero, bets=zero, betted=zero, penalty=zero)


def added(start: Float64[Tensor, "*r"], more: Float64[Tensor, "t *r"]) -> Float64[Tensor, "t *r"]:
    """Return running sums that go on from a start, so that parts add up as the whole does."""
    return torch.cat([start[None], more]).cumsum(0)[1:]


def observe(
    seen: Seen, values: Float64[Tensor, "t s"], alpha: float
) -> tuple[Seen, Float64[Tensor, "t s"]]:
    """Return what is remembered after some more observations, and the bets λ ≥ 0 before each.

    λ_t = √(2 ln(2/α) / (σ̂²_{t−1} t ln(1 + t))) with μ̂_t = (½ + Σx) / (t + 1) and σ̂²_t = (¼ +
    Σ(x_i − μ̂_i)²) / (t + 1), which only look back. Values are in [0, 1], in order of time;
    ``alpha`` is 1 − confidence; bets are not yet cut to what could be lost.
    """
    times = torch.arange(1, len(values) + 1, dtype=torch.float64)[:, None] + seen.count
    totals = added(seen.total, values)
    means = (0.5 + totals) / (times + 1)
    before = torch.cat([(0.5 + seen.total)[None] / (seen.count + 1), means[:-1]])
    squares = added(seen.squares, (values - means).square())
    variance = (0.25 + torch.cat([seen.squares[None], squares[:-1]])) / times
    bets = (2 * math.log(2 / alpha) / (variance * times * (1 + times).log())).sqrt()
    cut = bets.clamp(max=SHARE)
    penalties = (values - before).square() * (-(-cut).log1p() - cut)
    after = Seen(
        count=seen.count + len(values),
        total=totals[-1],
        squares=squares[-1],
        bets=added(seen.bets, cut)[-1],
        betted=added(seen.betted, cut * values)[-1],
        penalty=added(seen.penalty, penalties)[-1],
    )
    return after, bets


def winnings(
    values: Float64[Tensor, "t s"], bets: Float64[Tensor, "t s"], means: Float64[Tensor, "m"]
) -> tuple[Float64[Tensor, "t m s"], Float64[Tensor, "t m s"]]:
    """Return by what factor, in logarithms, each observation multiplies the two capitals.

    Of the bettor that the mean is above m, ln(1 + λ⁺(x − m)), and that it is below; values and
    means are in [0, 1].
    """
    points, gains = means[None, :, None], values[:, None] - means[None, :, None]
    above = torch.minimum(bets[:, None], SHARE / points)
    below = torch.minimum(bets[:, None], SHARE / (1 - points))
    return (above * gains).log1p(), (-below * gains).log1p()


def bernstein(seen: Seen, alpha: float) -> tuple[Float64[Tensor, "s"], Float64[Tensor, "s"]]:
    """Return the empirical Bernstein confidence sequence in closed form, within [0, 1].

    Σλx / Σλ ± (ln(2/α) + Σv) / Σλ with v = (x_i − μ̂_{i−1})² (−ln(1 − λ) − λ), after at least one
    observation; ``alpha`` is 1 − confidence.
    """
    middle = seen.betted / seen.bets
    half = (math.log(2 / alpha) + seen.penalty) / seen.bets
    return (middle - half).clamp(min=0.0), (middle + half).clamp(max=1.0)
