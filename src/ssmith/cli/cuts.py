"""``--cut UNIT=AMOUNT`` and what goes with each cut, as the settings of budgets."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ssmith.cli.generated import settings_of
from ssmith.core.errors import InputError
from ssmith.core.names import meant

PER_CUT = {
    "method": ("method", "NAME"),
    "settings": ("set", "NAME=VALUE"),
    "scope": ("scope", "NAME"),
    "targets": ("targets", "A,B"),
    "min_per_layer": ("min-per-layer", "N"),
    "ties": ("ties", "exact|keep"),
    "compensate": ("compensate", "NAME"),
    "semantics": ("semantics", "NAME"),
}
"""Fields of a budget: the flag of each, and what stands for its value."""
_OTHER_WORDS = {
    "states": "state", "columns": "state", "column": "state", "d_state": "state",
    "state_size": "state", "ssm_state_size": "state", "entries": "entry", "a_log": "entry",
    "projections": "weight", "projection": "weight", "weights": "weight", "linear": "weight",
    "blocks": "block", "layers": "block", "layer": "block", "depth": "block",
    "num_layers": "block", "heads": "head", "num_heads": "head", "mamba_num_heads": "head",
    "mamba_head_dim": "head_dim", "neurons": "neuron", "intermediate_size": "neuron",
    "ffn_hidden_size": "neuron", "channels": "channel", "kv_groups": "kv_group",
    "experts": "expert", "num_experts": "expert", "num_local_experts": "expert",
    "expert_neurons": "expert_neuron", "moe_intermediate_size": "expert_neuron",
}  # fmt: skip


def cuts_of(arguments: argparse.Namespace, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the budgets that flags and recipe ask for."""
    cuts = [_cut(text) for text in arguments.cut or ()] or _held(content.get("cuts"))
    if not cuts:
        raise InputError(
            "--cut is missing",
            allowed="--cut UNIT=AMOUNT, or --plan-in PATH",
            next_step="--cut state=0.33 removes a third of the states",
        )
    for name, (flag, _) in PER_CUT.items():
        for text in getattr(arguments, flag.replace("-", "_")) or ():
            chosen, value = _chosen(cuts, flag, text)
            for cut in chosen:
                _set(cut, name, flag, value)
    calibration = content.get("calibration")
    # What is no mapping is refused where the settings are read.
    seed = calibration.get("seed") if isinstance(calibration, Mapping) else None
    if seed is not None:
        for cut in cuts:
            cut.setdefault("seed", seed)
            if hasattr(arguments, "calibration.seed"):
                cut["seed"] = seed
    return cuts


def _held(cuts: Any) -> list[dict[str, Any]]:
    if cuts is None:
        return []
    if not isinstance(cuts, list) or not all(isinstance(cut, Mapping) for cut in cuts):
        raise InputError(f"cuts is {cuts!r}", allowed="a list of mappings with unit and sparsity")
    for cut in cuts:
        for name, kind in (("settings", dict), ("targets", list)):
            if not isinstance(cut.get(name, kind()), kind):
                raise InputError(
                    f"cuts: {name} is {cut[name]!r}",
                    allowed="a list" if kind is list else "a mapping",
                )
    return [dict(cut) for cut in cuts]


def _cut(text: str) -> dict[str, Any]:
    unit, equals, amount = text.partition("=")
    unit = unit.strip().replace("-", "_")
    if not equals or not unit or not amount.strip():
        raise InputError(
            f"--cut {text}", allowed="UNIT=AMOUNT", next_step="state=0.5 removes half of the states"
        )
    ours = _OTHER_WORDS.get(unit.lower())
    if ours is not None:
        raise InputError(f"there is no unit {unit!r}", next_step=f"did you mean {ours}={amount}?")
    return {"unit": unit, "sparsity": _amount(amount.strip())}


def _amount(text: str) -> Any:
    """Read a share, a count, N:M, or a quantity and what the model is to have of it."""
    quantity, colon, rest = text.partition(":")
    if colon and not quantity.isdigit():
        known = settings_of("ssmith.core.budget:Target")["quantity"].choices
        name = quantity.replace("-", "_")
        if name not in known:
            raise InputError(
                f"amount {text!r}",
                allowed=f"N:M, or one of {', '.join(known)} with a colon and a number",
                next_step=meant(name, known) or "parameters:0.7 leaves seven tenths of them",
            )
        return {"quantity": name, "amount": _number(rest)}
    return text if colon else _number(text)


def _number(text: str) -> float | int:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(
        f"amount {text!r} is not a number", allowed="a share in [0, 1), a count, or N:M"
    )


def _chosen(cuts: list[dict[str, Any]], flag: str, text: str) -> tuple[list[dict[str, Any]], str]:
    """Return the cuts that a flag is for, and its value."""
    units = [str(cut.get("unit")) for cut in cuts]
    unit, colon, value = text.partition(":")
    if colon and unit in units:
        return [cut for cut in cuts if cut.get("unit") == unit], value
    if len(cuts) == 1:
        return cuts, text
    raise InputError(
        f"--{flag} {text} with several cuts",
        allowed=f"UNIT:VALUE with UNIT one of {', '.join(dict.fromkeys(units))}",
        next_step=f"--{flag} {units[0]}:{text}",
    )


def _set(cut: dict[str, Any], name: str, flag: str, value: str) -> None:
    if name == "settings":
        key, equals, text = value.partition("=")
        if not equals or not key.strip() or not text:
            raise InputError(f"--{flag} {value!r} is not NAME=VALUE")
        cut["settings"] = {**cut.get("settings", {}), key.strip(): _typed(text)}
    elif name == "targets":
        more = [item.strip() for item in value.split(",") if item.strip()]
        cut["targets"] = [*cut.get("targets", ()), *more]
    elif name == "min_per_layer":
        try:
            cut[name] = int(value)
        except ValueError:
            raise InputError(f"--{flag} {value!r} is not a whole number") from None
    else:
        cut[name] = value


def _typed(text: str) -> str | int | float:
    try:
        return _number(text)
    except InputError:
        return text
