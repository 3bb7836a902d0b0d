"""The places of tokens in hybrids: attention must count them as the recurrent layers do."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ssmith.core.errors import UnsupportedError

_PADDED = "_ssmith_holds_padding"


def places_of(
    attention_mask: Any, length: int, past: int, device: torch.device
) -> Int64[Tensor, "r l"]:
    """Return the place of each of the last ``length`` tokens in its own sequence.

    Places count from 0; padding tokens repeat the place before them. A mask that is not (b, past +
    length) counts no padding, and one row stands for all that are alike.
    """
    whole = past + length
    if names_padding(attention_mask) and attention_mask.shape[1] == whole:
        counted = (attention_mask != 0).long().cumsum(1) - 1
        placed: Tensor = counted.clamp_min(0)[:, past:]
        return placed
    return torch.arange(past, whole, device=device)[None]


def check_padding_is_named(cache: Any, attention_mask: Any) -> None:
    """Raise if a cache holds padding and there is no mask that names it."""
    if attention_mask is None and getattr(cache, _PADDED, False):
        raise UnsupportedError(
            "the cache holds padding, which attention reads as tokens without a mask",
            allowed="an attention_mask over all tokens, the cached ones included",
            next_step="append ones for the new tokens to the mask of the first call",
        )


def remember_padding(cache: Any, attention_mask: Any) -> None:
    """Note on a cache that it holds padding, if the mask it was filled with names some."""
    if cache is not None and names_padding(attention_mask):
        setattr(cache, _PADDED, True)


def names_padding(attention_mask: Any) -> bool:
    """Return whether a mask is one number per token, and calls some of them padding."""
    if not isinstance(attention_mask, Tensor) or attention_mask.ndim != 2:
        return False
    return not bool((attention_mask != 0).all())
