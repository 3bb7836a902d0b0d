"""Which steps and channels an answer rests on: integrated gradients, and occlusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import DataError, InputError, UnsupportedError
from ssmith.core.running import evaluating
from ssmith.core.trees import dtype_of, place_of
from ssmith.serving.rows import asked_of

AttributionMethod = Literal["integrated-gradients", "occlusion"]
_AT_ONCE = 64
"""Variants of a row that run together."""


@dataclass(frozen=True, kw_only=True)
class AttributionConfig:
    """How an answer is taken apart.

    Args:
        method: ``integrated-gradients`` along the line from a baseline to the row, or
            ``occlusion``: how much the answer falls when a stretch is the baseline's.
        baseline: what stands for nothing: ``zero`` (of scaled data the mean of training), or the
            ``mean`` over the row's own steps.
        points: of the line at which gradients are taken, ≥ 1.
        width: steps that are occluded together, ≥ 1.

    Raises:
        InputError: if a setting is out of its domain.
    """

    method: AttributionMethod = "integrated-gradients"
    baseline: Literal["zero", "mean"] = "zero"
    points: int = 50
    width: int = 1

    def __post_init__(self) -> None:
        check_choice("method", self.method, ("integrated-gradients", "occlusion"))
        check_choice("baseline", self.baseline, ("zero", "mean"))
        check_integer("points", self.points, at_least=1)
        check_integer("width", self.width, at_least=1)


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What each step of a row adds to one output.

    Args:
        values: (l, c), of tokens (l, 1). Integrated gradients sum up to ``output`` − ``at_nothing``
            but for ``gap``; what occlusion finds need not.
        output: of the row, before a softmax.
        at_nothing: of the baseline; of tokens of no step, which is not known: NaN.
        place: of the output among the model's.
        config: how it was found.
    """

    values: Float[Tensor, "l c"]
    output: float
    at_nothing: float
    place: int
    config: AttributionConfig

    @property
    def gap(self) -> float:
        """Difference between the sum of all values and what they should sum up to."""
        return float(self.values.sum()) - (self.output - self.at_nothing)


def attribute(
    model: nn.Module,
    x: Float[Tensor, "l c"] | Int64[Tensor, "l"],
    config: AttributionConfig | None = None,
    *,
    output: int | None = None,
) -> Attribution:
    """Take an answer apart: what does each step of each channel add to it?

    Args:
        model: a sequence model, or a language model with a head.
        x: one row as the model reads it, scaled where it was trained on scaled data.
        config: by which method.
        output: place of the class or number that is taken apart; the likeliest class, or the
            first number, if None.

    Returns:
        The parts.

    Raises:
        DataError: if the row is empty or of another shape than the model reads.
        UnsupportedError: if gradients are to be taken of tokens.
        InputError: if there is no such output.

    Source:
        Sundararajan et al. (2017), "Axiomatic attribution for deep networks", equation 1, with
        Gauss-Legendre points; Zeiler & Fergus (2014), section 4.2.
    """
    config, answers = config or AttributionConfig(), asked_of(model)
    tokens = answers.channels is None
    if x.ndim != (1 if tokens else 2) or not len(x):
        raise DataError(
            f"a row of shape {tuple(x.shape)}",
            allowed="(steps,)" if tokens else "(steps, channels)",
        )
    if tokens and config.method != "occlusion":
        raise UnsupportedError(
            "gradients of tokens, which have no values between them", allowed="occlusion",
            next_step="choose method='occlusion': a stretch is left out",
        )  # fmt: skip
    x = x.to(place_of(model), None if tokens else dtype_of(model))
    with evaluating(model):
        out = model(x[None])[0]
    place = _place(out, output, chooses=answers.task == "classification")
    found = _of_tokens if tokens else _METHODS[config.method]
    with evaluating(model):
        values, nothing = found(lambda rows: model(rows)[:, place], x, config)
    return Attribution(
        values=values.detach().double().cpu(), output=float(out[place]), at_nothing=nothing,
        place=place, config=config,
    )  # fmt: skip


def _place(out: Tensor, output: int | None, *, chooses: bool) -> int:
    if output is None:
        return int(out.argmax()) if chooses else 0
    if not 0 <= output < len(out):
        raise InputError(f"output is {output}", allowed=f"0 to {len(out) - 1}")
    return output


Run = Callable[[Tensor], Tensor]
Parts = tuple[Tensor, float]


def _integrated(run: Run, x: Tensor, config: AttributionConfig) -> Parts:
    nothing = _nothing(x, config)
    nodes, weights = np.polynomial.legendre.leggauss(config.points)
    shares = torch.from_numpy((nodes + 1) / 2).to(x)
    total = torch.zeros_like(x)
    for part, weight in zip(
        shares.split(_AT_ONCE), torch.from_numpy(weights / 2).to(x).split(_AT_ONCE), strict=True
    ):
        rows = (nothing + part[:, None, None] * (x - nothing)).requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(run(rows).sum(), rows)
        total += (weight[:, None, None] * slope).sum(0)
    return total * (x - nothing), float(run(nothing[None])[0])


def _occluded(run: Run, x: Tensor, config: AttributionConfig) -> Parts:
    nothing, found = _nothing(x, config), torch.zeros_like(x)
    whole = run(x[None])[0]
    starts = range(0, len(x), config.width)
    places = [(start, channel) for start in starts for channel in range(x.shape[1])]
    for first in range(0, len(places), _AT_ONCE):
        part = places[first : first + _AT_ONCE]
        rows = x.repeat(len(part), 1, 1)
        for row, (start, channel) in zip(rows, part, strict=True):
            stretch = slice(start, start + config.width)
            row[stretch, channel] = nothing[stretch, channel]
        falls = whole - run(rows)
        for fall, (start, channel) in zip(falls, part, strict=True):
            # Shared out, so that the table does not count a stretch once for each of its steps.
            hidden = found[start : start + config.width, channel]
            hidden[:] = fall / len(hidden)
    return found, float(run(nothing[None])[0])


def _of_tokens(run: Run, x: Tensor, config: AttributionConfig) -> Parts:
    whole = run(x[None])[0]
    found = whole.new_zeros(len(x), 1)
    for start in range(0, len(x), config.width):
        rest = torch.cat([x[:start], x[start + config.width :]])
        if len(rest):
            stretch = found[start : start + config.width]
            stretch[:] = (whole - run(rest[None])[0]) / len(stretch)
    return found, float("nan")


def _nothing(x: Tensor, config: AttributionConfig) -> Tensor:
    if config.baseline == "zero":
        return torch.zeros_like(x)
    return x.mean(0, keepdim=True).expand_as(x).clone()


_METHODS = {"integrated-gradients": _integrated, "occlusion": _occluded}
