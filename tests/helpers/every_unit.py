"""Tiny random models of every family of transformers, whose units can be cut by half."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch

from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import tiny
from ssmith.families import sites

_WIDTH = {"hidden_size": 16}
_BAMBA = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 2, "mamba_d_state": 6}
_ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 6},
    "falcon_mamba": {"state_size": 6},
    "mamba2": {"num_heads": 4, "head_dim": 8, "n_groups": 2, "state_size": 6},
    "jamba": _ATTENTION | {"mamba_d_state": 6, "num_experts": 4},
    "zamba": {"mamba_d_state": 6, "n_mamba_heads": 4},
    "zamba2": {"mamba_d_state": 6, "n_mamba_heads": 4, "mamba_headdim": 8, "mamba_ngroups": 2},
    "bamba": _BAMBA | _ATTENTION,
    "falcon_h1": _BAMBA | _ATTENTION | {"mamba_d_ssm": 32},
    "granitemoehybrid": _BAMBA | _ATTENTION | {"num_local_experts": 4},
    "nemotron_h": _ATTENTION
    | {
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "n_groups": 2,
        "ssm_state_size": 6,
        "head_dim": 4,
    },
}
_MOE = {
    "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
    "n_routed_experts": 4,
    "moe_intermediate_size": 10, "moe_shared_expert_intermediate_size": 12,
}  # fmt: skip
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon_h1 normed": ("falcon_h1", {"mamba_rms_norm": True, "mamba_norm_before_gate": False}),
    "falcon_h1 normed first": (
        "falcon_h1",
        {"mamba_rms_norm": True, "mamba_norm_before_gate": True},
    ),
    "mamba2 with biases": ("mamba2", {"use_bias": True}),
    "mamba with biases": ("mamba", {"use_bias": True}),
    "nemotron_h with experts": ("nemotron_h", _MOE),
    "nemotron_h with groups": (
        "nemotron_h",
        _MOE
        | {
            "n_routed_experts": 8,
            "n_group": 2,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "moe_latent_size": 6,
            "mlp_bias": True,
            "norm_topk_prob": False,
            "routed_scaling_factor": 1.5,
        },
    ),
}
MODELS = (*SETTINGS, *VARIANTS)


def build(name: str, dtype: torch.dtype = torch.float64, **more: Any) -> Any:
    """Return a model, in eval mode, with every weight large enough to matter."""
    return copy.deepcopy(_built(name, **more)).to(dtype)


@cache
def _built(name: str, **more: Any) -> Any:
    base, changes = VARIANTS.get(name, (name, {}))
    make = tiny if base in ("mamba", "falcon_mamba", "mamba2") else tiny_hybrid
    model = make(base, dtype=torch.float32, **(_WIDTH | SETTINGS[base] | changes | more))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model.eval()


def units_of(name: str) -> list[str]:
    """Return the units that go for good in a model's layers, in the order of its sites."""
    tables = [table for site in sites(build(name)).values() for table in site.couplings]
    return list(dict.fromkeys(item.unit for item in tables if "shrink" in item.modes))


CASES = [(name, unit) for name in MODELS for unit in units_of(name)]
