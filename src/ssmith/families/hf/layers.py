"""What a Hugging Face model's selective layers hold."""

from __future__ import annotations

from typing import Any

from torch import nn

from ssmith.core.layers import STATES, LayerInfo
from ssmith.core.selective import ENTRIES
from ssmith.families.hf.engine import kind_of, mixers
from ssmith.families.hf.holding import PRUNABLE, held
from ssmith.families.hf.kinds import LAYER_KINDS, layer_kinds
from ssmith.families.hf.known import KNOWN, Maths
from ssmith.families.hf.selective import NORMALISED
from ssmith.ops.backends import Op, choose

_SCANS: dict[Maths, Op] = {"mamba": "selective_scan", "zamba": "selective_scan", "mamba2": "ssd"}
_HEADS: dict[Maths, str] = {"mamba2": "num_heads", "zamba": "n_mamba_heads"}


def selective_layers(model: nn.Module) -> tuple[LayerInfo, ...]:
    """Return what each selective layer holds; none for a model without one.

    Their parameters are those of the whole mixer, projections and convolution included; their
    width is the number of inner channels.
    """
    return tuple(_info(name, mixer) for name, mixer in mixers(model)[0].items())


def selective_scan_of(model: nn.Module) -> Op | None:
    """Return the operation a model's selective layers scan with; None if it has none."""
    kinds = [KNOWN[kind_of(mixer)].maths for mixer in mixers(model)[0].values()]
    return _SCANS[kinds[0]] if kinds else None


def state_shape(mixer: Any) -> tuple[int, ...]:
    """Return the shape of one sequence's state in a mixer: (e, n), or (h, p, n) with heads."""
    if KNOWN[kind_of(mixer)].maths == "mamba2":
        return (mixer.num_heads, mixer.head_dim, mixer.ssm_state_size)
    return tuple(mixer.A_log.shape)


def hf_facts(model: nn.Module) -> dict[str, Any]:
    """Return what a Hugging Face model is, and which of its mixers the engine cannot run."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "model_type"):
        return {}
    kinds = layer_kinds(model)
    counts = [f"{list(kinds.values()).count(kind)} {kind}" for kind in LAYER_KINDS]
    facts = {
        "model type": config.model_type,
        "layers": ", ".join(counts),
        "input": f"{config.vocab_size} token ids",
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }
    left = mixers(model)[1]
    if left:
        facts["not run by the engine"] = "; ".join(f"{name}: {reason}" for name, reason in left)
    return facts


def _info(name: str, mixer: Any) -> LayerInfo:
    known = KNOWN[kind_of(mixer)]
    units = {STATES: mixer.ssm_state_size, "channels": mixer.intermediate_size}
    if known.maths in _HEADS:
        units["heads"] = getattr(mixer, _HEADS[known.maths])
    path = choose(_SCANS[known.maths], mixer.A_log)
    grid: dict[str, tuple[int, ...]] = {unit: (count,) for unit, count in units.items()}
    masked = dict.fromkeys(units, 0)
    fate = "cannot be pruned yet"
    if kind_of(mixer) in PRUNABLE:
        fate = "entries of A_log, state columns and projections can be pruned"
        units[ENTRIES], grid[ENTRIES] = mixer.A_log.numel(), tuple(mixer.A_log.shape)
        masked[ENTRIES] = int((~held(mixer, "A_log")).sum())
    notes = [f"runs on the engine ({path.backend})", fate]
    if hasattr(mixer, "c_layernorm") and kind_of(mixer) in PRUNABLE:
        notes.append(f"columns: {NORMALISED}")
    return LayerInfo(
        name=name,
        family=known.family,
        units=units,
        grid=grid,
        width=mixer.intermediate_size,
        parameters=sum(parameter.numel() for parameter in mixer.parameters()),
        masked=masked,
        notes=tuple(notes),
    )
