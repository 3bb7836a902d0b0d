"""What a planner decided, before it is a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ssmith.core.layers import Finding
from ssmith.core.plan import Cut


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What becomes of some layers of a model.

    Args:
        cuts: what stays, in order.
        values: new values of the tensors that are not just cut, by dotted name.
        findings: what was excepted.
        facts: what was measured, JSON-ready.
    """

    cuts: tuple[Cut, ...]
    values: Mapping[str, Tensor] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
