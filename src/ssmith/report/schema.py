"""Of what type each value is that a page reads from a receipt: a damaged one is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ssmith.core.curve import Curve
from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.receipt import Receipt

_Kinds = tuple[type, ...]
_NUMBER: _Kinds = (int, float)
_FLAG: _Kinds = (bool,)
_TEXT: _Kinds = (str,)
_WORDS = {_NUMBER: "a number", _FLAG: "true or false", _TEXT: "a text"}
_ANY = "*"
_ITEM = "[]"
_RESTORE = "restore it from its source"

_SIDES = "before after"
_ESTIMATES = "before.value before.low before.high after.value after.low after.high"
_DIFFERENCE = "difference.value difference.low difference.high"
_NUMBERS = {
    "removed.*": f"{_SIDES} fraction",
    "quality": f"count level p {_ESTIMATES} {_DIFFERENCE}",
    "quality.agreement": "both_right only_before only_after both_wrong",
    "quality.own": f"{_SIDES} {_DIFFERENCE}",
    "quality.lm_eval.[]": f"{_SIDES} count {_DIFFERENCE}",
    "quality.recall.[]": f"{_SIDES} count length {_DIFFERENCE}",
    "speed": "threads batch_size length repeats training_seconds",
    "speed.per_batch": f"{_SIDES} warm_up.calls samples.before.[] samples.after.[]",
    "speed.state_space_per_batch": f"{_SIDES} samples.before.[] samples.after.[]",
    "speed.per_step": f"{_SIDES} samples.before.[] samples.after.[]",
    "memory.peak_forward_bytes": _SIDES,
    "memory.state_bytes_per_sequence": _SIDES,
    "size": "trained_parameters share",
    "size.bytes": _SIDES,
    "size.parameters": _SIDES,
    "parity": "shrunk_vs_masked step_vs_scan saved_vs_loaded engine_vs_stock tolerance",
    "saving": "saved_per_month price_per_hour sequences_per_day",
    "saving.cost_per_month": _SIDES,
    "saving.hours_per_month": _SIDES,
    "method.rates.*": "value",
    "data": "counts.*",
}
_FLAGS = {
    "quality": "higher_is_better",
    "speed.per_batch.warm_up": "settled",
    "parity": "passed",
    "verdict": "accepted reasons.[].passed",
}
_TEXTS = {
    "model": "name family digest_before digest_after",
    "method.criterion": "name",
    "method.rates.*": "source",
    "data": "name source sha256",
    "quality": "metric split counted interval p_test why_null difference.interval",
    "quality.own": "name",
    "quality.lm_eval.[]": "task metric",
    "quality.recall.[]": "task metric",
    "speed": "path per_batch.why state_space_per_batch.why per_step.why",
    "memory": "how",
    "parity": "dtype why_null.*",
    "saving": "currency counted assumptions.[]",
    "verdict": "headline reasons.[].gate reasons.[].text",
    "findings.[]": "layer kind message",
}
_OF_TUNE = {
    "quality.*": f"{_ESTIMATES} {_DIFFERENCE}",
    "details": "best_step steps looks.[].step looks.[].train_loss looks.[].validation.loss",
}
_OF_CUTS = {"details.layers.[]": "before after scores.[]"}
_CHANGED = "rows broken mended changed.value changed.low changed.high loss.value loss.low loss.high"
_OF_TRIAL = {"details": "mean rows units interval.low interval.high"}
_OF_KIND = {
    "tune": _OF_TUNE, "pilot": _OF_CUTS, "prune": _OF_CUTS, "shadow": _OF_TRIAL, "ab": _OF_TRIAL,
    "canary": {"details": "requests cancelled worst ties"},
    "merge": {"details.merge": "difference output_size"},
    "audit": {
        "details": "moved moves.[].rows sizes.* answers.prompts",
        "details.whole": _CHANGED, "details.groups.*.[]": _CHANGED,
    },
}  # fmt: skip


def check(receipt: Receipt) -> None:
    """Refuse a receipt in which a value that a page shows is of another type than it was written.

    Args:
        receipt: any receipt; what is absent or null was not measured.

    Raises:
        ArtefactError: if a value is of another type; it names the key.
    """
    content = receipt.as_dict()
    numbers = _NUMBERS | _OF_KIND.get(receipt.action, {})
    if receipt.action == "tune":
        content["quality"] = {
            name: value
            for name, value in receipt.quality.items()
            if not isinstance(value, dict) or "after" in value
        }
    for table, kinds in ((numbers, _NUMBER), (_FLAGS, _FLAG), (_TEXTS, _TEXT)):
        for place, names in table.items():
            for name in names.split():
                _check(content, f"{place}.{name}", kinds)
    if (curve := receipt.details.get("curve")) is not None:
        _check_curve(curve)


def _check_curve(content: Any) -> None:
    try:
        Curve.from_dict(content)
    except InputError as error:
        what = f"the receipt: details.{error.what}"
        raise ArtefactError(what, allowed=error.allowed, next_step=_RESTORE) from error


def _check(content: Any, pattern: str, kinds: _Kinds) -> None:
    for path, value in _found(content, pattern.split("."), ""):
        # Several texts are shown one after the other.
        several = kinds == _TEXT and isinstance(value, list)
        for item in value if several else [value]:
            if item is not None and not _is(item, kinds):
                raise _wrong(path, value, _WORDS[kinds])


def _is(value: Any, kinds: _Kinds) -> bool:
    # In Python a truth value is a number.
    return isinstance(value, kinds) and isinstance(value, bool) == (kinds == _FLAG)


def _found(section: Any, steps: list[str], path: str) -> Iterator[tuple[str, Any]]:
    """Yield what stands where a pattern points, with its path."""
    if not steps:
        yield path, section
        return
    if section is None:
        return
    first, rest = steps[0], steps[1:]
    wanted = list if first == _ITEM else dict
    if not isinstance(section, wanted):
        raise _wrong(path, section, "a list" if wanted is list else "a mapping")
    if isinstance(section, list):
        for place, item in enumerate(section):
            yield from _found(item, rest, f"{path}[{place}]")
        return
    names = list(section) if first == _ANY else [first] if first in section else []
    for name in names:
        fact = first == _ANY and bool(rest) and rest[0] != _ITEM
        if fact and not isinstance(section[name], dict):
            # A fact that stands beside what is measured.
            continue
        yield from _found(section[name], rest, f"{path}.{name}" if path else name)


def _wrong(path: str, value: Any, allowed: str) -> ArtefactError:
    shown = repr(value)
    shown = shown if len(shown) < 80 else f"{shown[:80]}…"
    return ArtefactError(f"the receipt: {path} is {shown}", allowed=allowed, next_step=_RESTORE)
