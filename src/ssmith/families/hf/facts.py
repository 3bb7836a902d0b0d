"""What a Hugging Face model is, in words; and the shape of its states."""

from __future__ import annotations

from typing import Any

from torch import nn

from ssmith.families.family import KINDS
from ssmith.families.hf.kinds import layer_kinds
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.registry import mixers


def state_shape(mixer: Any) -> tuple[int, ...]:
    """Return the shape of one sequence's state in a mixer: (e, n), or (h, p, n) with heads."""
    if mixer.A_log.ndim == 1:
        states = GroupedLayer("", mixer).n
        return (mixer.num_heads, mixer.head_dim, states)
    return tuple(mixer.A_log.shape)


def hf_facts(model: nn.Module) -> dict[str, Any]:
    """Return what a Hugging Face model is, and which of its mixers the engine cannot run."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "model_type"):
        return {}
    channels = getattr(getattr(model, "head_config", None), "channels", None)
    kinds = layer_kinds(model)
    counts = [f"{list(kinds.values()).count(kind)} {kind}" for kind in KINDS]
    facts = {
        "model type": config.model_type,
        "layers": ", ".join(counts),
        "input": f"{config.vocab_size} token ids" if channels is None else f"{channels} channels",
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }
    left = mixers(model)[1]
    if left:
        facts["not run by the engine"] = "; ".join(f"{name}: {reason}" for name, reason in left)
    return facts
