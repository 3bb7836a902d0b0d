"""Whether what lies on disk belongs to the run that finds it: one comparison, which names keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ssmith.core.errors import ArtefactError

_LONGEST = 60


def check_same_run(
    there: Mapping[str, Any], wanted: Mapping[str, Any], *, what: str, next_step: str
) -> None:
    """Raise unless two records of what a run depends on are the same.

    Both are compared as JSON would give them back: a tuple is a list, a key is a text.
    """
    first, second = _flat("", as_json(there)), _flat("", as_json(wanted))
    changed = [
        f"{key} was {_short(first.get(key))} and is {_short(second.get(key))}"
        for key in sorted({*first, *second})
        if (key in first, first.get(key)) != (key in second, second.get(key))
    ]
    if changed:
        more = f", and {len(changed) - 2} more" if len(changed) > 2 else ""
        raise ArtefactError(
            f"{what} belongs to a run with other settings or data: {', '.join(changed[:2])}{more}",
            next_step=next_step,
        )


def as_json(content: Any) -> Any:
    """Return content as it comes back from a JSON file."""
    return json.loads(json.dumps(content))


def _flat(prefix: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        return {prefix: content}
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _flat(f"{prefix}.{key}" if prefix else key, value)
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
