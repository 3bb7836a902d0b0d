"""What must hold before a version may go live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssmith.core.settings import from_mapping, to_mapping


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What must hold before a version may go live."""

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return to_mapping(self)


def policy_from(content: Mapping[str, Any], *, where: str) -> Policy:
    """Return the policy that a mapping holds."""
    return from_mapping(Policy, content, where=where)
