"""The small print: speed conditions, parity, saving, findings, provenance."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ssmith.core.findings import gravest_first
from ssmith.core.receipt import Receipt
from ssmith.report.look import flag, mapping, number, pair, printable, text
from ssmith.report.numbers import NOT_MEASURED, count, significant


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One labelled value.

    Args:
        label: what it is.
        value: the value in words.
        code: whether it is a digest, a command or the like.
    """

    label: str
    value: str
    code: bool = False


def speed_facts(receipt: Receipt) -> list[Fact]:
    """Return the conditions under which time and memory were measured."""
    labels = {
        "path": "code path",
        "threads": "threads",
        "batch_size": "batch size",
        "length": "steps per sequence",
        "repeats": "repeats (median)",
    }
    facts = [Fact(label=label, value=_value(receipt.speed, key)) for key, label in labels.items()]
    calls = number(receipt.speed, "per_batch", "warm_up", "calls")
    if calls is not None:
        settled = flag(receipt.speed, "per_batch", "warm_up", "settled")
        said = "times had settled" if settled else "times had not settled"
        facts.append(Fact(label="warm-up", value=f"{count(calls)} batches, {said}"))
    return [*facts, Fact(label="memory", value=_value(receipt.memory, "how"))]


def parity_rows(receipt: Receipt) -> list[tuple[str, str]]:
    """Return the worst difference of each pair of paths, in words."""
    names = {
        "shrunk_vs_masked": "shrunk model against masked model",
        "step_vs_scan": "step by step against whole sequence",
        "saved_vs_loaded": "saved file against model in memory",
    }
    if "engine_vs_stock" in receipt.parity:
        names.pop("shrunk_vs_masked")
        names["engine_vs_stock"] = "our scans against transformers' own code, per largest logit"
    return [(name, _parity(receipt.parity, key)) for key, name in names.items()]


def _parity(parity: dict[str, Any], key: str) -> str:
    worst = number(parity, key)
    if worst is not None:
        return "0, bit for bit" if worst == 0 else significant(worst, 2)
    why = text(parity, "why_null", key)
    return f"not available: {why}" if why else NOT_MEASURED


def parity_verdict(receipt: Receipt) -> tuple[str, str]:
    """Return the tone and the sentence under the parity table."""
    tolerance = number(receipt.parity, "tolerance")
    if tolerance is None:
        return "open", f"Tolerance: {NOT_MEASURED}."
    passed = flag(receipt.parity, "passed")
    said = {True: "all within", False: "not all within", None: "not judged against"}[passed]
    dtype = text(receipt.parity, "dtype") or "dtype not named"
    tone = {True: "passed", False: "failed", None: "open"}[passed]
    return tone, f"Worst absolute differences, {dtype}; {said} {significant(tolerance, 1)}."


def saving_facts(receipt: Receipt) -> list[Fact]:
    """Return the estimate of money, empty if there is none."""
    saving = receipt.saving
    currency = text(saving, "currency")
    saved = number(saving, "saved_per_month")
    facts = []
    if saved is not None:
        facts.append(Fact(label="saved per month", value=_money(saved, currency)))
    cost, hours = pair(saving, "cost_per_month"), pair(saving, "hours_per_month")
    if cost:
        before, after = _money(cost.before, currency), _money(cost.after, currency)
        facts.append(Fact(label="cost per month", value=f"{before} → {after}"))
    if hours:
        value = f"{significant(hours.before)} → {significant(hours.after)} h"
        facts.append(Fact(label="machine time per month", value=value))
    if text(saving, "counted"):
        facts.append(Fact(label="counted", value=text(saving, "counted")))
    price, load = number(saving, "price_per_hour"), number(saving, "sequences_per_day")
    if price is not None:
        facts.append(Fact(label="price per hour", value=_money(price, currency)))
    if load is not None:
        facts.append(Fact(label="sequences per day", value=count(load)))
    return facts


def finding_rows(receipt: Receipt) -> list[tuple[str, str, str]]:
    """Return layer, kind and message of each finding."""
    rows = []
    for item in gravest_first(receipt.findings):
        message = printable(item.message)
        if item.units:
            listed = ", ".join(map(str, item.units[:12]))
            more = f" and {len(item.units) - 12} more" if len(item.units) > 12 else ""
            message += f" (units {listed}{more})"
        rows.append((printable(item.layer) or "model", printable(item.kind), message))
    return rows


def provenance(receipt: Receipt) -> list[tuple[str, list[Fact]]]:
    """Return the groups of provenance: model, data, method, run."""
    model, data, method = receipt.model, receipt.data, receipt.method
    counts = mapping(data, "counts")
    split = ", ".join(f"{printable(name)} {_plain(size)}" for name, size in counts.items())
    groups = [
        (
            "Model",
            [
                _fact(model, "name", "name"),
                # What a receipt of this kind does not hold is no gap in it.
                *_known(model, "family", "task"),
                *([Fact(label="layers", value=_layers(model))] if model.get("layers") else []),
                _fact(model, "digest_before", "digest before", code=True),
                *_known(model, "digest_after", code=True),
            ],
        ),
        (
            "Data",
            [
                _fact(data, "name", "name"),
                _fact(data, "source", "source"),
                Fact(label="rows", value=split or "not recorded"),
                _fact(data, "sha256", "SHA-256", code=True),
                *_settings(mapping(data, "details")),
            ],
        ),
        ("Method", _settings({k: v for k, v in method.items() if k != "command"})),
        (
            "Run",
            [
                Fact(label="action", value=printable(receipt.action)),
                Fact(
                    label="seed",
                    value="none, nothing was random" if receipt.seed is None else str(receipt.seed),
                ),
                *_settings(dict(receipt.versions)),
            ],
        ),
    ]
    return [(title, facts) for title, facts in groups if title != "Data" or data]


def raw_json(receipt: Receipt) -> str:
    """Return the receipt without its long lists, for reading."""
    content = receipt.as_dict()
    content["details"] = dict.fromkeys(content["details"], "see the CSV files")
    # Display only: a value that JSON lacks is shown, not refused.
    return printable(json.dumps(content, indent=2, sort_keys=True, default=str, ensure_ascii=False))


def _fact(section: dict[str, Any], key: str, label: str, *, code: bool = False) -> Fact:
    return Fact(label=label, value=_value(section, key, missing="not recorded"), code=code)


def _known(section: dict[str, Any], *keys: str, code: bool = False) -> list[Fact]:
    """Return facts of the keys that a section has."""
    return [
        _fact(section, key, key.replace("_", " "), code=code) for key in keys if section.get(key)
    ]


def _value(section: dict[str, Any], key: str, missing: str = NOT_MEASURED) -> str:
    value = section.get(key)
    return missing if value is None or value == "" else _plain(value)


def _layers(model: dict[str, Any]) -> str:
    value = model.get("layers")
    return str(len(value)) if isinstance(value, list | dict) else _plain(value)


def _settings(section: dict[str, Any], prefix: str = "") -> list[Fact]:
    """Flatten nested settings into facts."""
    facts: list[Fact] = []
    for key, value in section.items():
        label = f"{prefix}{printable(key)}"
        if isinstance(value, dict):
            facts += _settings(value, prefix=f"{label} · ")
        else:
            facts.append(Fact(label=label.replace("_", " "), value=_plain(value)))
    return facts


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value[:20]) + ("…" if len(value) > 20 else "")
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return count(value) if whole and abs(value) >= 10_000 else printable(value)


def _money(value: float, currency: str) -> str:
    shown = significant(value) if abs(value) < 1 else f"{value:,.2f}".replace(",", "\u202f")
    return f"{shown} {currency}".replace("-", "−").strip()
