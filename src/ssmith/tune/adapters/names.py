"""Methods by the names that files and the command line use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.names import unknown_name
from ssmith.core.settings import from_mapping
from ssmith.tune.adapters.additional_scan import AdditionalScan
from ssmith.tune.adapters.initial_state import InitialState
from ssmith.tune.adapters.lora import LoRA
from ssmith.tune.adapters.method import Method
from ssmith.tune.adapters.prefix import PrefixTuning
from ssmith.tune.adapters.prompt import PromptTuning
from ssmith.tune.adapters.sdt import SDT
from ssmith.tune.adapters.state_offset import StateOffset
from ssmith.tune.adapters.tensors import BitFit, FullFineTuning, Parameters

_KINDS: dict[str, type[Method]] = {
    kind.method: kind
    for kind in (
        StateOffset, InitialState, AdditionalScan, PromptTuning, PrefixTuning, BitFit, LoRA, SDT,
        Parameters, FullFineTuning,
    )
}  # fmt: skip

_NAMED: dict[str, tuple[type[Method], dict[str, Any]]] = {
    "state-offset-h": (StateOffset, {"form": "h"}),
    "state-offset-y": (StateOffset, {"form": "y"}),
    "state-offset-hy": (StateOffset, {"form": "both"}),
    "state-offset-h-lowrank": (StateOffset, {"form": "h", "rank": 8}),
    "initial-state": (InitialState, {}),
    "additional-scan": (AdditionalScan, {}),
    "prompt": (PromptTuning, {}),
    "prefix": (PrefixTuning, {}),
    "bitfit": (BitFit, {}),
    "lora": (LoRA, {}),
    "dora": (LoRA, {"dora": True}),
    "sdt": (SDT, {}),
    "parameters": (Parameters, {}),
    "full": (FullFineTuning, {"scope": "all"}),
    "full-ssm": (FullFineTuning, {"scope": "ssm"}),
}
METHODS = tuple(_NAMED)


def by_name(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """Return a method by the name users give it."""
    if name not in _NAMED:
        raise unknown_name(f"method {name!r}", name, METHODS)
    kind, preset = _NAMED[name]
    return from_mapping(kind, {**preset, **(settings or {})}, where=f"method {name!r}")


def from_plain(value: object) -> Method:
    """Return a method as files and command lines write it; `Method.as_plain` writes one.

    It is a name (``state-offset-h``), a name with targets behind a colon and joined by ``+``
    (``lora:in_proj+out_proj``), or a mapping with ``method`` and its settings.
    """
    if isinstance(value, str):
        name, _, targets = value.strip().partition(":")
        return by_name(name, {"targets": targets.split("+")} if targets else {})
    if not isinstance(value, Mapping) or "method" not in value:
        raise InputError(f"method {value!r}", allowed="a name, or a mapping with 'method'")
    settings = dict(value)
    name = str(settings.pop("method"))
    if name in _KINDS and (name not in _NAMED or set(_NAMED[name][1]) <= set(settings)):
        # The names that files use, where every setting is spelt out.
        return from_mapping(_KINDS[name], settings, where=f"method {name!r}")
    return by_name(name, settings)


def methods_of(names: str) -> tuple[Method, ...]:
    """Return the methods that are named between commas (see `from_plain`)."""
    return tuple(from_plain(name) for name in names.split(","))
