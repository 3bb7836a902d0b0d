"""Checks that name the fault, how often it occurs and where it is first."""

from __future__ import annotations

from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from ssmith.core.errors import DataError
from ssmith.core.words import number_of, span


def check_lengths(lengths: Tensor, *, count: int, longest: int, where: str) -> None:
    """Refuse lengths that do not fit their sequences."""
    if lengths.shape != (count,):
        raise DataError(
            f"{where}: lengths has shape {tuple(lengths.shape)}", allowed=f"({count},), as x has"
        )
    bad = (lengths < 1) | (lengths > longest)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise DataError(
            f"{where}: {number_of(int(bad.sum()), 'length')} out of range, the first is "
            f"{int(lengths[first])} at sequence {first}",
            allowed=span(1, longest),
        )


def check_finite(
    x: Float32[Tensor, "b l c"],
    valid: Bool[Tensor, "b l"],
    *,
    names: list[str] | None,
    where: str,
) -> None:
    """Refuse NaN and infinity among the valid steps."""
    bad = ~x.isfinite() & valid[..., None]
    if not bool(bad.any()):
        return
    nan = int((x.isnan() & bad).sum())
    i, step, channel = bad.nonzero()[0].tolist()
    called = f" ({names[i]})" if names else ""
    raise DataError(
        f"{where}: {number_of(int(bad.sum()), 'value')} not finite in float32 ({nan} NaN, "
        f"{int(bad.sum()) - nan} infinite), the first at sequence {i}{called}, step {step}, "
        f"channel {channel}",
        allowed="finite numbers",
        next_step="drop or repair these sequences",
    )


def check_tokens(
    x: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"], *, vocabulary: int, where: str
) -> None:
    """Refuse tokens outside the vocabulary."""
    bad = ((x < 0) | (x >= vocabulary)) & valid
    if bool(bad.any()):
        i, step = bad.nonzero()[0].tolist()
        raise DataError(
            f"{where}: {number_of(int(bad.sum()), 'token')} out of the vocabulary, the first is "
            f"{int(x[i, step])} at sequence {i}, step {step}",
            allowed=f"0 to {vocabulary - 1}",
            next_step="use the tokeniser of the model, or check the vocabulary",
        )
