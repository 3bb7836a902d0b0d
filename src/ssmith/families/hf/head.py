"""A language model in two parts: the hidden states, and the head that scores tokens from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

_PLAIN_HEADS = {"MambaForCausalLM", "FalconMambaForCausalLM", "Mamba2ForCausalLM"}


def read_out(
    model: nn.Module, ids: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"] | None
) -> tuple[Float[Tensor, "b l w"], Callable[[Tensor], Tensor]]:
    """Return what a language model's head reads, and the head.

    Where a class does more between the two than apply a linear layer, its logits are returned
    with a head that hands them on.
    """
    known: Any = model
    mask = None if valid is None else valid.long()
    if type(model).__name__ not in _PLAIN_HEADS:
        logits: Tensor = known(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits, lambda rows: rows
    hidden: Tensor = known.base_model(
        input_ids=ids, attention_mask=mask, use_cache=False
    ).last_hidden_state
    head: nn.Module = known.get_output_embeddings()
    dtype = next(head.parameters()).dtype
    return hidden, lambda rows: head(rows.to(dtype))
