"""Perplexity and bits per byte with intervals, of one model or of two in pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.core.seeds import generator
from ssmith.core.tokens import TokenWindows
from ssmith.core.words import number_of
from ssmith.evaluation.compare import Comparison
from ssmith.evaluation.intervals import Estimate, check_level, quantile, resample
from ssmith.evaluation.metrics import Metric
from ssmith.evaluation.perplexity import window_losses
from ssmith.families.hf import engine

_BITS = 1 / math.log(2.0)
_SWAPS_AT_ONCE = 2**20


def _not_of_outputs(outputs: Tensor, y: Tensor) -> Tensor:
    """Refuse: perplexity is a ratio of sums over windows, not a mean over sequences."""
    raise InputError(
        "perplexity of classes or numbers",
        allowed="windows of text",
        next_step="ssmith.measure(model, text.windows(2048))",
    )


PERPLEXITY = Metric(
    name="perplexity",
    higher_is_better=False,
    per_sequence=_not_of_outputs,
    relative=True,
    counted="windows",
)


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """How well a language model predicts a text.

    Args:
        perplexity: exp of the mean negative log-likelihood per counted token, with its interval.
        bits_per_byte: the same text's bits over its bytes; None if its bytes are not known.
        tokens: counted tokens.
        text_bytes: bytes they stand for, or None.
        windows: where it was measured, JSON-ready: name, split, length, stride, digest.
        paths: which backend ran, one line per operation.
    """

    perplexity: Estimate
    bits_per_byte: Estimate | None
    tokens: int
    text_bytes: int | None
    windows: dict[str, Any]
    paths: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "perplexity": self.perplexity.as_dict(),
            "bits_per_byte": None if self.bits_per_byte is None else self.bits_per_byte.as_dict(),
            "interval": self.perplexity.method,
            "level": self.perplexity.level,
            "tokens": self.tokens,
            "text_bytes": self.text_bytes,
            "windows": self.windows,
            "paths": list(self.paths),
        }

    def __str__(self) -> str:
        lines = [f"perplexity per token: {said(self.perplexity)}"]
        if self.bits_per_byte is not None:
            lines.append(f"bits per byte: {said(self.bits_per_byte)}")
        return "\n".join([*lines, f"on {place(self.windows)}"])


def said(estimate: Estimate) -> str:
    """Return an estimate over windows in words."""
    return (
        f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}] "
        f"({estimate.method}, {estimate.level:.0%}, {number_of(estimate.count, 'window')})"
    )


def place(windows: dict[str, Any]) -> str:
    """Return where something was measured in words: text, split, rows, counted tokens."""
    how = windows["details"]
    parts = [f"{windows['name']}"]
    if "split" in how:
        parts.append(f"split {how['split']}")
    if "length" in how:
        rows = f"{number_of(windows['windows'], 'row')} of {how['length']} tokens"
        parts.append(rows + (f" at stride {how['stride']}" if "stride" in how else ", drawn"))
    parts.append(number_of(windows["scored_tokens"], "counted token"))
    return ", ".join(parts)


def measure_perplexity(
    model: nn.Module,
    windows: TokenWindows,
    *,
    batch_size: int = 8,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Perplexity:
    """Measure a language model on windows of text.

    The interval is a percentile bootstrap over windows: it says how the number would vary over
    other windows of this kind of text, and nothing about other kinds.

    Args:
        model: a language model.
        windows: what to measure on.
        batch_size: windows per forward pass, ≥ 1.
        seed: of the bootstrap.
        level: confidence, in (0, 1).
        resamples: of the bootstrap, ≥ 100.

    Returns:
        Perplexity per token and bits per byte.

    Raises:
        DataError: if no token is counted, or an id is outside the model's vocabulary.
        NumericalError: if a likelihood is not finite.
    """
    check_level(level)
    losses = window_losses(model, windows, batch_size=batch_size)
    return perplexity_of(
        losses, windows, paths_of(model), seed=seed, level=level, resamples=resamples
    )


def perplexity_of(
    losses: Float64[Tensor, "w"],
    windows: TokenWindows,
    paths: tuple[str, ...],
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Perplexity:
    """Return perplexity and bits per byte from the losses of windows (see `window_losses`).

    Args:
        losses: one sum per window, in nats.
        windows: what they were measured on.
        paths: which backend ran.
        seed: of the bootstrap.
        level: confidence, in (0, 1).
        resamples: of the bootstrap, ≥ 100.

    Returns:
        Both, with intervals.

    Raises:
        DataError: if no token is counted.
    """
    tokens = counted(windows)
    columns = [losses, tokens]
    if windows.text_bytes is not None:
        columns.append(windows.text_bytes.double())
    means = _bootstrap(torch.stack(columns, dim=1), seed=seed, resamples=resamples)

    method = f"bootstrap over windows, {resamples} resamples"

    def over(column: int, change: Callable[[Tensor], Tensor]) -> Estimate:
        mean = losses.sum() / columns[column].sum()
        draws = change(means[:, 0] / means[:, column])
        return _estimate(float(change(mean)), draws, level, method=method, count=len(losses))

    text_bytes = None if windows.text_bytes is None else int(windows.text_bytes.sum())
    return Perplexity(
        perplexity=over(1, torch.exp),
        bits_per_byte=over(2, lambda nats: nats * _BITS) if text_bytes else None,
        tokens=int(tokens.sum()),
        text_bytes=text_bytes,
        windows=windows.describe(),
        paths=paths,
    )


@dataclass(frozen=True, kw_only=True)
class PerplexityComparison:
    """Two models on the same windows.

    Args:
        before: the first model.
        after: the second model.
        increase: perplexity after / before − 1, with a paired two-sided interval.
        loss_lower_bound: the true increase is at least this, one-sided at the same level.
        loss_upper_bound: the true increase is at most this, one-sided at the same level.
        difference: perplexity after − before, with a paired two-sided interval.
        p: two-sided p-value of "no difference".
        p_test: name of the test.
    """

    before: Perplexity
    after: Perplexity
    increase: Estimate
    loss_lower_bound: float
    loss_upper_bound: float
    difference: Estimate
    p: float
    p_test: str

    def as_comparison(self) -> Comparison:
        """Return the comparison as gates and receipts read it; its loss is the increase."""
        return Comparison(
            metric=PERPLEXITY,
            before=self.before.perplexity,
            after=self.after.perplexity,
            difference=self.difference,
            loss_lower_bound=self.loss_lower_bound,
            loss_upper_bound=self.loss_upper_bound,
            p=self.p,
            p_test=self.p_test,
            agreement=None,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the quality section of a receipt, with bits per byte and where it was measured."""
        windows = self.before.windows
        per_byte = {
            name: None if found.bits_per_byte is None else found.bits_per_byte.as_dict()
            for name, found in (("before", self.before), ("after", self.after))
        }
        return {
            **self.as_comparison().as_dict(split=windows["details"].get("split", "")),
            "increase": {**self.increase.as_dict(), "interval": self.increase.method},
            "bits_per_byte": per_byte,
            "tokens": self.before.tokens,
            "windows": windows,
            "paths": {"before": list(self.before.paths), "after": list(self.after.paths)},
        }

    def __str__(self) -> str:
        change = self.increase
        return "\n".join(
            [
                f"perplexity before: {said(self.before.perplexity)}",
                f"perplexity after:  {said(self.after.perplexity)}",
                f"change: {change.value:+.2%} [{change.low:+.2%}, {change.high:+.2%}] "
                f"({change.method}); p = {self.p:.3g} ({self.p_test})",
                f"on {place(self.before.windows)}",
            ]
        )


def compare_perplexity(
    before: nn.Module,
    after: nn.Module,
    windows: TokenWindows,
    *,
    batch_size: int = 8,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 10_000,
) -> PerplexityComparison:
    """Compare two language models on the same windows, in pairs.

    Args:
        before: the first model.
        after: the second model.
        windows: what to measure on.
        batch_size: windows per forward pass, ≥ 1.
        seed: of resampling.
        level: confidence, in (0.5, 1).
        resamples: of the bootstrap and the swaps, ≥ 100.

    Returns:
        Both perplexities and their relative difference.

    Raises:
        InputError: if a setting is out of range.
        DataError: if no token is counted, or an id is outside a model's vocabulary.
        NumericalError: if a likelihood is not finite.
    """
    losses = [window_losses(model, windows, batch_size=batch_size) for model in (before, after)]
    return compare_losses(
        losses[0],
        losses[1],
        windows,
        (paths_of(before), paths_of(after)),
        seed=seed,
        level=level,
        resamples=resamples,
    )


def compare_losses(
    before: Float64[Tensor, "w"],
    after: Float64[Tensor, "w"],
    windows: TokenWindows,
    paths: tuple[tuple[str, ...], tuple[str, ...]],
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 10_000,
) -> PerplexityComparison:
    """Compare two models by their losses on the same windows (see `compare_perplexity`).

    Args:
        before: sum of each window under the first model, in nats.
        after: the same under the second model.
        windows: what they were measured on.
        paths: which backends ran.
        seed: of resampling.
        level: confidence, in (0.5, 1).
        resamples: of the bootstrap and the swaps, ≥ 100.

    Returns:
        The comparison.

    Raises:
        InputError: if a setting is out of range.
    """
    check_level(level)
    if level <= 0.5:
        raise InputError(f"level is {level}", allowed="above 0.5, e.g. 0.95")
    tokens = counted(windows)
    means = _bootstrap(torch.stack([before, after, tokens], dim=1), seed=seed, resamples=resamples)
    first, second = means[:, 0] / means[:, 2], means[:, 1] / means[:, 2]
    draws = torch.expm1(second - first)
    value = math.expm1(float((after - before).sum() / tokens.sum()))
    method = f"paired bootstrap over windows, {resamples} resamples"
    both = [
        perplexity_of(losses, windows, path, seed=seed, level=level, resamples=resamples)
        for losses, path in zip((before, after), paths, strict=True)
    ]
    return PerplexityComparison(
        before=both[0],
        after=both[1],
        increase=_estimate(value, draws, level, method=method, count=len(windows)),
        difference=_estimate(
            both[1].perplexity.value - both[0].perplexity.value,
            second.exp() - first.exp(),
            level,
            method=method,
            count=len(windows),
        ),
        loss_lower_bound=quantile(draws, 1 - level),
        loss_upper_bound=quantile(draws, level),
        p=_swap_test(after - before, seed=seed, resamples=resamples),
        p_test=f"paired permutation, {resamples} swaps",
    )


def counted(windows: TokenWindows) -> Float64[Tensor, "w"]:
    """Return how many tokens are counted in each window.

    Args:
        windows: rows of tokens.

    Returns:
        One count per window.

    Raises:
        DataError: if there is none at all.
    """
    tokens = (windows.lengths - windows.scored_from).clamp(min=0).double()
    if not float(tokens.sum()):
        raise DataError(
            f"no token of {windows.name} is counted", next_step="give windows of two tokens or more"
        )
    return tokens


def paths_of(model: nn.Module) -> tuple[str, ...]:
    """Return which backend each operation of a model runs on, in words."""
    with engine(model) as report:
        return tuple(f"{item.op}: {item.backend} ({item.reason})" for item in report.paths)


def _bootstrap(
    values: Float64[Tensor, "w k"], *, seed: int, resamples: int
) -> Float64[Tensor, "r k"]:
    blocks = resample(len(values), seed=seed, resamples=resamples)
    return torch.cat([values[index].mean(dim=1) for index in blocks])


def _estimate(
    value: float, draws: Float64[Tensor, "r"], level: float, *, method: str, count: int
) -> Estimate:
    if not math.isfinite(value) or not bool(draws.isfinite().all()):
        raise NumericalError(
            "the mean loss is beyond any perplexity",
            next_step="the model predicts nothing; check its weights",
        )
    return Estimate(
        value=value,
        low=quantile(draws, (1 - level) / 2),
        high=quantile(draws, (1 + level) / 2),
        level=level,
        method=method,
        count=count,
    )


def _swap_test(change: Float64[Tensor, "w"], *, seed: int, resamples: int) -> float:
    """Return the p-value of "no difference": how often swapped pairs differ at least as much."""
    stream, extreme = generator(seed, "swap"), 0
    seen, slack = float(change.sum().abs()), 1e-12 * float(change.abs().sum())
    block = max(1, _SWAPS_AT_ONCE // len(change))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        signs = 1 - 2 * torch.randint(2, (rows, len(change)), generator=stream).double()
        extreme += int(((signs @ change).abs() >= seen - slack).sum())
    return (extreme + 1) / (resamples + 1)
