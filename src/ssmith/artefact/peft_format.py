"""What `peft` calls the settings and tensors of LoRA and DoRA, there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssmith.artefact.adapter_config import CONFIG, PeftLoRA
from ssmith.core.errors import ArtefactError, UnsupportedError
from ssmith.tune.adapters import LoRA, Method, Parameters

_PREFIX = "base_model.model."
_ENDS = (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector")
# What peft can do that changes the numbers, and the values that change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "bias": (None, "none"),
    "fan_in_fan_out": (None, False),
    "lora_bias": (None, False),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "layer_replication": (None,),
    "use_qalora": (None, False),
    "alora_invocation_tokens": (None,),
    "arrow_config": (None,),
    "init_lora_weights": (None, True, False, "gaussian", "orthogonal"),
}


def without_prefix(key: str) -> str:
    """Return a tensor's name without what `peft` puts before it."""
    return key.removeprefix(_PREFIX)


def is_plain_lora(methods: Sequence[Method]) -> bool:
    """Return whether an adapter is one LoRA or DoRA of whole layers, which `peft` can hold."""
    if len(methods) != 1 or not isinstance(methods[0], LoRA):
        return False
    targets = methods[0].targets
    return targets != "official" and not any(":" in target for target in targets)


def to_peft(model: nn.Module, method: Method, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the configuration `peft` would write for a plain LoRA."""
    settings: Any = method
    head = hasattr(model, "lm_head")
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if head else None,
        "inference_mode": True,
        "r": settings.rank,
        "lora_alpha": settings.rank if settings.alpha is None else settings.alpha,
        "lora_dropout": settings.dropout,
        "use_rslora": settings.rslora,
        "use_dora": settings.dora,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted(_owners(tensors)),
    }


def from_peft(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], directory: Path
) -> tuple[list[Method], dict[str, Tensor]]:
    """Return the methods and tensors that do what an adapter of `peft` does."""
    if config.get("peft_type") != "LORA":
        raise UnsupportedError(
            f"{directory}: an adapter of type {config.get('peft_type')!r}",
            allowed="LORA (with or without DoRA), or an adapter saved by ssmith",
            next_step="load it with peft",
        )
    for name, neutral in _NEUTRAL.items():
        if config.get(name) not in neutral:
            raise UnsupportedError(
                f"{directory}: peft's {name} is {config[name]!r}",
                allowed=f"{neutral[-1]!r}",
                next_step="load it with peft, and merge it there",
            )
    named = {without_prefix(key): value for key, value in tensors.items()}
    low = {key: value for key, value in named.items() if key.endswith(_ENDS)}
    whole = {key: value for key, value in named.items() if key not in low}
    strange = [key for key in whole if ".lora_" in key or "." not in key]
    ranks = {value.shape[0] for key, value in low.items() if key.endswith(_ENDS[0])}
    lora = PeftLoRA.of(config, str(directory / CONFIG))
    if strange or ranks != {lora.r}:
        raise ArtefactError(
            f"{directory}: " + (f"tensor {strange[0]}" if strange else f"ranks {sorted(ranks)}"),
            allowed="lora_A, lora_B and lora_magnitude_vector of linear layers, of one rank",
        )
    return _methods(lora, low, whole), {**low, **{_tuned(key): whole[key] for key in whole}}


def _methods(
    config: PeftLoRA, low: Mapping[str, Tensor], whole: Mapping[str, Tensor]
) -> list[Method]:
    lora = LoRA(
        targets=tuple(sorted(_owners(low))),
        rank=config.r,
        alpha=config.r if config.lora_alpha is None else config.lora_alpha,
        dropout=config.lora_dropout,
        rslora=config.use_rslora,
        dora=config.use_dora,
    )
    return [lora, Parameters(targets=tuple(sorted(whole)))] if whole else [lora]


def _owners(tensors: Mapping[str, Tensor]) -> set[str]:
    return {key.removesuffix(_ENDS[0]) for key in tensors if key.endswith(_ENDS[0])}


def _tuned(key: str) -> str:
    owner, _, parameter = key.rpartition(".")
    return f"{owner}.parameters_{parameter}.value"
