"""Tiny random hybrids: every other family of transformers with a selective scan inside."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

_MAMBA_2 = {"mamba_n_heads": 5, "mamba_d_head": 8, "mamba_d_state": 5, "mamba_chunk_size": 8}
_ATTENTION = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 24}
_COMMON = {
    "vocab_size": 61, "hidden_size": 20, "pad_token_id": 0, "eos_token_id": None,
    "bos_token_id": None,
}  # fmt: skip
_LAYERS = ["linear_attention", "full_attention", "linear_attention"]

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "jamba": ("Jamba", _ATTENTION | {
        "num_hidden_layers": 3, "attn_layer_period": 3, "attn_layer_offset": 1, "num_experts": 2,
        "num_experts_per_tok": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "mamba_d_state": 5, "mamba_dt_rank": 3,
    }),
    "zamba": ("Zamba", _ATTENTION | {
        "num_hidden_layers": 4, "mamba_d_state": 5, "mamba_dt_rank": 3, "n_mamba_heads": 2,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    }),
    "zamba2": ("Zamba2", _ATTENTION | {
        "num_hidden_layers": 3, "mamba_d_state": 5, "n_mamba_heads": 5, "mamba_headdim": 8,
        "chunk_size": 8, "mamba_ngroups": 1, "use_mem_rope": True,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention"],
    }),
    "bamba": ("Bamba", _ATTENTION | _MAMBA_2 | {"num_hidden_layers": 3, "attn_layer_indices": [1]}),
    "falcon_h1": ("FalconH1", _ATTENTION | _MAMBA_2 | {
        "num_hidden_layers": 2, "mamba_d_ssm": 40, "ssm_in_multiplier": 0.7,
        "ssm_multipliers": [0.9, 1.1, 0.8, 1.2, 0.7],
    }),
    "granitemoehybrid": ("GraniteMoeHybrid", _ATTENTION | _MAMBA_2 | {
        "num_hidden_layers": 3, "layer_types": _LAYERS, "num_local_experts": 2,
        "num_experts_per_tok": 1, "shared_intermediate_size": 16,
    }),
    "nemotron_h": ("NemotronH", _ATTENTION | {
        "layers_block_type": [*_LAYERS, "mlp"], "ssm_state_size": 5, "mamba_num_heads": 5,
        "mamba_head_dim": 8, "n_groups": 1, "chunk_size": 8, "head_dim": 10, "time_step_min": 1e-4,
    }),
}  # fmt: skip
HYBRIDS = tuple(SETTINGS)


def tiny_hybrid(name: str, *, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """Build a tiny hybrid of a family, in eval mode, with weights that make faults visible."""
    transformers = import_module("transformers")
    prefix, own = SETTINGS[name]
    config = getattr(transformers, f"{prefix}Config")(**(_COMMON | own | settings))
    # The grouped products of experts know no float64.
    config._experts_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, f"{prefix}ForCausalLM")(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim > 1 and "A_log" not in key:
                parameter.normal_(0.0, 0.15)
    return model.to(dtype).eval()
