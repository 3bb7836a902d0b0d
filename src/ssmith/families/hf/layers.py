"""What a Hugging Face model's selective layers hold."""

from __future__ import annotations

from typing import Any

from torch import nn

from ssmith.core.layers import STATES, LayerInfo
from ssmith.families.hf.engine import kind_of, mixers
from ssmith.ops.backends import Op, choose

_FAMILIES = {
    "MambaMixer": "mamba", "FalconMambaMixer": "falcon_mamba", "Mamba2Mixer": "mamba2",
}  # fmt: skip


def selective_layers(model: nn.Module) -> tuple[LayerInfo, ...]:
    """Return what each selective layer holds; none for a model without one.

    Their parameters are those of the whole mixer, projections and convolution included; their
    width is the number of inner channels.
    """
    return tuple(_info(name, mixer) for name, mixer in mixers(model)[0].items())


def selective_scan_of(model: nn.Module) -> Op | None:
    """Return the operation a model's selective layers scan with; None if it has none."""
    kinds = {kind_of(mixer) for mixer in mixers(model)[0].values()}
    if not kinds:
        return None
    return "ssd" if "Mamba2Mixer" in kinds else "selective_scan"


def hf_facts(model: nn.Module) -> dict[str, Any]:
    """Return what a Hugging Face model is, and which of its mixers the engine cannot run."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "model_type"):
        return {}
    facts = {
        "model type": config.model_type,
        "input": f"{config.vocab_size} token ids",
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }
    left = mixers(model)[1]
    if left:
        facts["not run by the engine"] = "; ".join(f"{name}: {reason}" for name, reason in left)
    return facts


def _info(name: str, mixer: Any) -> LayerInfo:
    kind = kind_of(mixer)
    second = kind == "Mamba2Mixer"
    units = {STATES: mixer.ssm_state_size, "channels": mixer.intermediate_size}
    if second:
        units["heads"] = mixer.num_heads
    path = choose("ssd" if second else "selective_scan", mixer.A_log)
    return LayerInfo(
        name=name,
        family=_FAMILIES[kind],
        units=units,
        grid={unit: (count,) for unit, count in units.items()},
        width=mixer.intermediate_size,
        parameters=sum(parameter.numel() for parameter in mixer.parameters()),
        masked=dict.fromkeys(units, 0),
        notes=(f"runs on the engine ({path.backend})", "cannot be pruned yet"),
    )
