"""Checkpoints of the `mamba_ssm` package as Hugging Face models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.errors import ModelError
from ssmith.core.optional import require

_SHARED = ("d_model", "n_layer", "vocab_size")


def from_mamba_ssm(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    """Build the transformers model of a `mamba_ssm` checkpoint, in the dtype of its weights."""
    return _load(skeleton(config), weights, tied=config.get("tie_embeddings", True))


def skeleton(config: Mapping[str, Any]) -> nn.Module:
    """Build the transformers model a `mamba_ssm` configuration describes, without its weights."""
    missing = [name for name in _SHARED if name not in config]
    if missing:
        raise ModelError(f"config.json lacks {missing}", next_step="give the original config.json")
    _refuse_unknown(config)
    settings = dict(config.get("ssm_cfg") or {})
    layer = settings.pop("layer", "Mamba1")
    build = {"Mamba1": _mamba, "Mamba2": _mamba2}.get(layer)
    if build is None:
        raise ModelError(f"ssm_cfg.layer is {layer!r}", allowed="Mamba1 or Mamba2")
    transformers = require("transformers", extra="hf", purpose="a mamba_ssm checkpoint")
    model: nn.Module = build(transformers, config, settings)
    if settings:
        raise ModelError(f"ssm_cfg has {sorted(settings)}", allowed="settings transformers has too")
    return model


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    if config.get("attn_layer_idx") or config.get("d_intermediate"):
        raise ModelError(
            "the checkpoint has attention or MLP layers", allowed="pure Mamba-1 or Mamba-2 models"
        )
    if not config.get("rms_norm", True):
        raise ModelError("the checkpoint uses LayerNorm", allowed="rms_norm true")


def _common(config: Mapping[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    multiple = config.get("pad_vocab_size_multiple", 8)
    return {
        "vocab_size": -(-config["vocab_size"] // multiple) * multiple,
        "hidden_size": config["d_model"],
        "num_hidden_layers": config["n_layer"],
        "conv_kernel": settings.pop("d_conv", 4),
        "expand": settings.pop("expand", 2),
        "use_conv_bias": settings.pop("conv_bias", True),
        "use_bias": settings.pop("bias", False),
        "residual_in_fp32": config.get("residual_in_fp32", True),
        "tie_word_embeddings": config.get("tie_embeddings", True),
    }


def _mamba(transformers: Any, config: Mapping[str, Any], settings: dict[str, Any]) -> nn.Module:
    built = _common(config, settings) | {"state_size": settings.pop("d_state", 16)}
    built["time_step_rank"] = settings.pop("dt_rank", "auto")
    built["intermediate_size"] = built["expand"] * built["hidden_size"]
    model: nn.Module = transformers.MambaForCausalLM(transformers.MambaConfig(**built))
    return model


def _mamba2(transformers: Any, config: Mapping[str, Any], settings: dict[str, Any]) -> nn.Module:
    built = _common(config, settings) | {"state_size": settings.pop("d_state", 128)}
    built["head_dim"] = settings.pop("headdim", 64)
    built["n_groups"] = settings.pop("ngroups", 1)
    built["chunk_size"] = settings.pop("chunk_size", 256)
    built["num_heads"] = built["expand"] * built["hidden_size"] // built["head_dim"]
    if "dt_limit" in settings:
        built["time_step_limit"] = tuple(settings.pop("dt_limit"))
    model: nn.Module = transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**built))
    return model


def _load(model: nn.Module, weights: Mapping[str, Tensor], *, tied: bool) -> nn.Module:
    renamed = {
        name.replace("backbone.embedding.", "backbone.embeddings."): tensor
        for name, tensor in weights.items()
    }
    embedding = renamed.get("backbone.embeddings.weight")
    if tied and embedding is not None:
        head = renamed.setdefault("lm_head.weight", embedding)
        if not torch.equal(head, embedding):
            raise ModelError(
                "lm_head.weight is not the embedding, though tie_embeddings is true",
                next_step="set tie_embeddings to false in config.json",
            )
    wanted = model.state_dict()
    wrong = sorted(
        [f"{name} is missing" for name in wanted.keys() - renamed.keys()]
        + [f"{name} is unknown" for name in renamed.keys() - wanted.keys()]
        + [
            f"{name} is {tuple(renamed[name].shape)}, not {tuple(wanted[name].shape)}"
            for name in wanted.keys() & renamed.keys()
            if renamed[name].shape != wanted[name].shape
        ]
    )
    if wrong:
        raise ModelError(
            f"{len(wrong)} weights do not fit, first: {wrong[0]}",
            next_step="check that config.json belongs to these weights",
        )
    model = model.to(next(iter(renamed.values())).dtype)
    model.load_state_dict(renamed)
    return model.eval()
