"""The page of one version: what it measured, what was removed, where it comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssmith.core.receipt import Receipt
from ssmith.dashboard.story import Story, VersionStory
from ssmith.dashboard.values import difference, metric_name, quality, unit_name
from ssmith.dashboard.words import Words
from ssmith.report.facts import Fact, provenance, raw_json
from ssmith.report.layers import Layer, read_layers
from ssmith.report.look import flag, items, printable, text

_CARD = "README.md"
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.S)
_MOST = 20_000


@dataclass(frozen=True, kw_only=True)
class Number:
    """One of the numbers on top.

    Args:
        term: key of the glossary.
        title: what it is.
        value: in words, empty if it was not measured.
        note: what it is beside.
    """

    term: str
    title: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """A model card, as far as it is text and a table.

    Args:
        paragraphs: of text.
        facts: rows of its table of two columns.
    """

    paragraphs: list[str]
    facts: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page of a version shows.

    Args:
        numbers: removed, quality, size, latency.
        accepted: the verdict of its receipt, None if there is none.
        headline: of the verdict, as the receipt says it.
        reasons: name, whether it passed and what was found, of each gate.
        layers: with counts before and after.
        provenance: groups of facts about model, data, method and run.
        findings: what the receipt excepted.
        parents: versions and models it was made from, the nearest first: name, digest, page.
        card: its card, if it has one.
        files: what lies in it, with bytes.
        raw: the receipt as JSON.
    """

    numbers: list[Number]
    accepted: bool | None = None
    headline: str = ""
    reasons: list[tuple[str, bool | None, str]] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    provenance: list[tuple[str, list[Fact]]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    parents: list[tuple[str, str, str]] = field(default_factory=list)
    card: Card | None = None
    files: list[tuple[str, int]] = field(default_factory=list)
    raw: str = ""


def page_of(story: Story, version: VersionStory, words: Words) -> Shown:
    """Return what the page of a version shows."""
    receipt = version.receipt
    common = {
        "numbers": _numbers(version, words),
        "card": _card(version.directory),
        "files": _files(version.directory),
    }
    if receipt is None:
        return Shown(**common)
    return Shown(
        **common,
        accepted=flag(receipt.verdict, "accepted"),
        headline=text(receipt.verdict, "headline"),
        reasons=[
            (text(item, "gate"), flag(item, "passed"), text(item, "text"))
            for item in items(receipt.verdict, "reasons")
        ],
        layers=[
            layer
            for layer in read_layers(receipt)
            if layer.before is not None and layer.after is not None
        ],
        provenance=provenance(receipt),
        findings=[text(item, "message") for item in receipt.findings],
        parents=_parents(story, receipt),
        raw=raw_json(receipt),
    )


def _numbers(version: VersionStory, words: Words) -> list[Number]:
    found, language = version.measures, words.language
    share = found.share_removed
    unit = unit_name(found.removed[0][0]) if found.removed else ""
    gone = found.removed[0] if found.removed else None
    return [
        Number(
            term="removed",
            title=language.say("Removed"),
            value="" if share is None else language.percent(share),
            note=""
            if gone is None
            else language.say("{unit}: {before} → {after}", unit=language.gettext(unit),
                              before=language.number(gone[1], 9), after=language.number(gone[2], 9)),
        ),
        Number(
            term="quality",
            title=language.gettext(metric_name(found)) or language.say("Quality"),
            value=quality(found, language).partition(" (")[0].partition("（")[0],
            note=_beside(version, words),
        ),
        Number(
            term="size",
            title=language.say("Size on disk"),
            value="" if found.size is None else language.size(found.size),
            note="",
        ),
        Number(
            term="latency",
            title=language.say("Latency per batch"),
            value="" if found.latency is None else language.seconds(found.latency),
            note="",
        ),
    ]  # fmt: skip


def _beside(version: VersionStory, words: Words) -> str:
    said = difference(version.measures, words.language)
    return words.language.say("difference: {difference}", difference=said) if said else ""


def _parents(story: Story, receipt: Receipt) -> list[tuple[str, str, str]]:
    """Follow the digests of models from receipt to receipt."""
    by_model = {
        text(version.receipt.model, "digest_after"): version
        for version in story.versions
        if version.receipt is not None
    }
    found: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    current: Receipt | None = receipt
    while current is not None:
        digest = text(current.model, "digest_before")
        if not digest or digest in seen:
            break
        seen.add(digest)
        version = by_model.get(digest)
        page = "" if version is None else f"version-{version.place}.html"
        found.append((text(current.model, "name"), digest, page))
        current = None if version is None else version.receipt
    return found


def _card(directory: Path | None) -> Card | None:
    """Read a card: front matter is for hubs and left out, a table of two columns becomes facts."""
    path = None if directory is None else directory / _CARD
    if path is None or not path.is_file():
        return None
    content = printable(path.read_text(encoding="utf-8", errors="replace")[:_MOST])
    body = _FRONT.sub("", content, count=1)
    paragraphs = [
        " ".join(part.split()).lstrip("# ")
        for part in body.split("\n\n")
        if part.strip() and not part.lstrip().startswith("|")
    ]
    rows = [[cell.strip(" `") for cell in line.strip("| ").split("|")] for line in
            body.splitlines() if line.startswith("|")]  # fmt: skip
    facts = [(row[0], row[1]) for row in rows if len(row) == 2 and row[0].strip("-: ")]
    return Card(paragraphs=paragraphs, facts=facts)


def _files(directory: Path | None) -> list[tuple[str, int]]:
    if directory is None or not directory.is_dir():
        return []
    files = sorted(item for item in directory.rglob("*") if item.is_file())
    return [(item.relative_to(directory).as_posix(), item.stat().st_size) for item in files]


def details_json(details: Mapping[str, Any]) -> str:
    """Return the small facts of an entry, for reading."""
    shown = json.dumps(dict(details), indent=2, sort_keys=True, default=str, ensure_ascii=False)
    return printable(shown)
