"""The small print: speed conditions, parity, saving, findings, provenance."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from ssmith.core.files import finite_or_none
from ssmith.core.findings import gravest_first
from ssmith.core.receipt import Receipt
from ssmith.core.sections import DataSection, ParitySection, Timed
from ssmith.core.settings import to_mapping
from ssmith.report.look import printable
from ssmith.report.numbers import NOT_MEASURED, count, significant


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One labelled value in words; ``code`` if it is a digest, a command or the like."""

    label: str
    value: str
    code: bool = False


def speed_facts(receipt: Receipt) -> list[Fact]:
    """Return the conditions under which time and memory were measured."""
    speed = receipt.speed
    facts = [
        _fact("code path", speed.path, NOT_MEASURED),
        _fact("threads", speed.threads, NOT_MEASURED),
        _fact("batch size", speed.batch_size, NOT_MEASURED),
        _fact("steps per sequence", speed.length, NOT_MEASURED),
        _fact("repeats (median)", speed.repeats, NOT_MEASURED),
    ]
    warm_up = speed.per_batch.warm_up if isinstance(speed.per_batch, Timed) else None
    if warm_up is not None:
        said = "times had settled" if warm_up.settled else "times had not settled"
        facts.append(Fact(label="warm-up", value=f"{count(warm_up.calls)} batches, {said}"))
    return [*facts, _fact("memory", receipt.memory.how, NOT_MEASURED)]


def parity_rows(receipt: Receipt) -> list[tuple[str, str]]:
    """Return the worst difference of each pair of paths, in words."""
    names = {
        "shrunk_vs_masked": "shrunk model against masked model",
        "step_vs_scan": "step by step against whole sequence",
        "saved_vs_loaded": "saved file against model in memory",
    }
    if "engine_vs_stock" in receipt.parity.worst:
        names.pop("shrunk_vs_masked")
        names["engine_vs_stock"] = "our scans against transformers' own code, per largest logit"
    return [(name, _parity(receipt.parity, key)) for key, name in names.items()]


def _parity(parity: ParitySection, key: str) -> str:
    worst = finite_or_none(parity.worst.get(key))
    if worst is not None:
        return "0, bit for bit" if worst == 0 else significant(worst, 2)
    why = printable(parity.why_null.get(key, ""))
    return f"not available: {why}" if why else NOT_MEASURED


def parity_verdict(receipt: Receipt) -> tuple[str, str]:
    """Return the tone and the sentence under the parity table."""
    tolerance, passed = receipt.parity.tolerance, receipt.parity.passed
    if tolerance is None:
        return "open", f"Tolerance: {NOT_MEASURED}."
    said = {True: "all within", False: "not all within", None: "not judged against"}[passed]
    dtype = printable(receipt.parity.dtype) or "dtype not named"
    tone = {True: "passed", False: "failed", None: "open"}[passed]
    return tone, f"Worst absolute differences, {dtype}; {said} {significant(tolerance, 1)}."


def saving_facts(receipt: Receipt) -> list[Fact]:
    """Return the estimate of money, empty if there is none."""
    saving = receipt.saving
    cost, hours = saving.cost_per_month, saving.hours_per_month
    currency = printable(saving.currency)
    facts = []
    if saving.saved_per_month is not None:
        facts.append(Fact(label="saved per month", value=_money(saving.saved_per_month, currency)))
    if cost:
        before, after = _money(cost.before, currency), _money(cost.after, currency)
        facts.append(Fact(label="cost per month", value=f"{before} → {after}"))
    if hours:
        value = f"{significant(hours.before)} → {significant(hours.after)} h"
        facts.append(Fact(label="machine time per month", value=value))
    if saving.counted:
        facts.append(_fact("counted", saving.counted))
    if saving.price_per_hour is not None:
        facts.append(Fact(label="price per hour", value=_money(saving.price_per_hour, currency)))
    if saving.sequences_per_day is not None:
        facts.append(Fact(label="sequences per day", value=count(saving.sequences_per_day)))
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
    split = ", ".join(f"{printable(name)} {_plain(size)}" for name, size in data.counts.items())
    known = {"family": model.family, "task": model.task, "layers": model.layers}
    groups = [
        (
            "Model",
            [
                _fact("name", model.name),
                # What a receipt of this kind does not hold is no gap in it.
                *(_fact(label, value) for label, value in known.items() if value),
                _fact("digest before", model.digest_before, code=True),
                *(
                    [_fact("digest after", model.digest_after, code=True)]
                    * bool(model.digest_after)
                ),
            ],
        ),
        (
            "Data",
            [
                _fact("name", data.name),
                _fact("source", data.source),
                _fact("rows", split),
                _fact("SHA-256", data.sha256, code=True),
                *_settings(data.details),
            ],
        ),
        ("Method", _settings(to_mapping(replace(method, command=())))),
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
    return [(title, facts) for title, facts in groups if title != "Data" or data != DataSection()]


def raw_json(receipt: Receipt) -> str:
    """Return the receipt without its long lists, for reading."""
    content = receipt.as_dict()
    content["details"] = dict.fromkeys(content["details"], "see the CSV files")
    # Display only: a value that JSON lacks is shown, not refused.
    return printable(json.dumps(content, indent=2, sort_keys=True, default=str, ensure_ascii=False))


def _fact(
    label: str, value: str | int | None, missing: str = "not recorded", *, code: bool = False
) -> Fact:
    said = missing if value is None or value == "" else _plain(value)
    return Fact(label=label, value=said, code=code)


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
