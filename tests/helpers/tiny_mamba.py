"""Tiny random Hugging Face models whose weights are large enough to make every fault visible."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

NAMES = ("mamba", "falcon_mamba", "mamba2")


def tiny(name: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, **settings: Any) -> Any:
    """Build a tiny model of a family, in eval mode."""
    transformers = import_module("transformers")
    torch.manual_seed(seed)
    common = {
        "vocab_size": 61, "hidden_size": 20, "num_hidden_layers": 2, "state_size": 5,
        "pad_token_id": 0, "eos_token_id": None, "bos_token_id": None,
    }  # fmt: skip
    if name == "mamba2":
        common |= {"num_heads": 5, "head_dim": 8, "n_groups": 1, "chunk_size": 8}
        common |= {"time_step_limit": (0.0, float("inf"))}
        kind, config = transformers.Mamba2ForCausalLM, transformers.Mamba2Config
    elif name == "falcon_mamba":
        kind, config = transformers.FalconMambaForCausalLM, transformers.FalconMambaConfig
    else:
        kind, config = transformers.MambaForCausalLM, transformers.MambaConfig
    model = kind(config(**(common | settings)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.15)
    return model.to(dtype).eval()


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    """Draw token ids, none of them the padding token."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(1, 61, (batch, length), generator=draw)
