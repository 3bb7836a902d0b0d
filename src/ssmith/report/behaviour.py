"""What an audit found: answers that changed, of all rows and of each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssmith.core.receipt import Receipt
from ssmith.report.look import items, mapping, number, text


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """One group.

    Args:
        name: column and value, or what is counted.
        rows: how many.
        changed: share of answers that changed, with its interval.
        loss: of the metric, with its interval; empty where it has none.
    """

    name: str
    rows: str
    changed: str
    loss: str = ""


def behaviour_rows(receipt: Receipt) -> list[GroupRow]:
    """Return all rows, then every group, the worst of a column first."""
    found = receipt.details
    if "answers" in found:
        answers = mapping(found, "answers")
        return [
            GroupRow(name="greedy tokens that differ", rows="", changed=_interval(
                {key: 1 - value for key, value in mapping(found, "agreement").items()
                 if isinstance(value, float) and key in ("value", "low", "high")})),
            GroupRow(name="answers to prompts", rows=text(answers, "prompts"),
                     changed=_interval(mapping(answers, "changed"))),
        ]  # fmt: skip
    rows = [_row("all rows", mapping(found, "whole"))] if "whole" in found else []
    for column, groups in mapping(found, "groups").items():
        rows += [_row(f"{column} {text(item, 'name')}", item) for item in groups]
    return rows


def moves(receipt: Receipt) -> str:
    """Return which class became which, how often."""
    found = [item for item in items(receipt.details, "moves") if isinstance(item, Mapping)]
    return ", ".join(
        f"{text(one, 'from')} → {text(one, 'to')} ({text(one, 'rows')})" for one in found[:10]
    )


def _row(name: str, item: Mapping[str, Any]) -> GroupRow:
    loss = mapping(item, "loss")
    value = number(loss, "value")
    ends = [number(loss, end) for end in ("low", "high")]
    told = "" if value is None else f"{value:+.4g}"
    if told and None not in ends:
        told += f" [{ends[0]:+.4g}, {ends[1]:+.4g}]"
    return GroupRow(
        name=name, rows=text(item, "rows"), changed=_interval(mapping(item, "changed")), loss=told
    )


def _interval(found: Mapping[str, Any]) -> str:
    value = number(found, "value")
    ends = sorted(end for end in (number(found, "low"), number(found, "high")) if end is not None)
    if value is None:
        return "not measured"
    return f"{value:.1%}" + (f" [{ends[0]:.1%}, {ends[1]:.1%}]" if len(ends) == 2 else "")
