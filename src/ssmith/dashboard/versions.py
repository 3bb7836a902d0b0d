"""The page of one version: what it measured, what was removed, where it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ssmith.core.sections import ModelSection
from ssmith.dashboard.language import mark
from ssmith.dashboard.story import Story, VersionStory
from ssmith.dashboard.values import difference, metric_name, quality_format, unit_name
from ssmith.dashboard.words import Words
from ssmith.report.facts import Fact, provenance, raw_json
from ssmith.report.layers import Layer, read_layers
from ssmith.report.look import printable

_CARD = "README.md"
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.S)
_MOST = 20_000
LABELS = (
    mark("Model"), mark("Data"), mark("Method"), mark("Run"), mark("name"), mark("family"),
    mark("task"), mark("layers"), mark("digest before"), mark("digest after"), mark("source"),
    mark("sequences"), mark("action"), mark("seed"), mark("machine"),
)  # fmt: skip
"""Labels of the report's facts, so that catalogues hold them."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """One of the numbers on top, by the key of the glossary; no value if it was not measured."""

    term: str
    title: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """A model card, as far as it is text and a table of two columns."""

    paragraphs: list[str]
    facts: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page of a version shows, mostly of its receipt.

    Reasons are name, whether it passed and what was found, of each gate; parents name, digest and
    page of what it was made from, the nearest first; files are with bytes.
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
    plain = Shown(
        numbers=_numbers(version, words),
        parents=_parents(story, version),
        card=_card(version.directory),
        files=_files(version.directory),
    )
    if receipt is None:
        return plain
    return replace(
        plain,
        accepted=receipt.verdict.accepted,
        headline=printable(receipt.verdict.headline),
        reasons=[
            (printable(item.gate), item.passed, printable(item.text))
            for item in receipt.verdict.reasons
        ],
        layers=[
            layer
            for layer in read_layers(receipt)
            if layer.before is not None and layer.after is not None
        ],
        provenance=provenance(receipt),
        findings=[printable(item.message) for item in receipt.findings],
        raw=raw_json(receipt),
    )


def _numbers(version: VersionStory, words: Words) -> list[Number]:
    found, language = version.measures, words.language
    share = found.share_removed
    return [
        Number(
            term="removed",
            title=language.say("Removed"),
            value="" if share is None else language.percent(share),
            note=_counts(version, words),
        ),
        Number(
            term="quality",
            title=language.say(metric_name(found) or "Quality"),
            value=""
            if found.quality is None
            else quality_format(found.metric, language)(found.quality),
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
    ]


def _counts(version: VersionStory, words: Words) -> str:
    said = words.language.say("{unit}: {before} → {after}")
    return "; ".join(
        said.format(
            unit=words.language.say(unit_name(unit)),
            before=words.language.number(before, 9),
            after=words.language.number(after, 9),
        )
        for unit, before, after in version.measures.removed
    )


def _beside(version: VersionStory, words: Words) -> str:
    said = difference(version.measures, words.language)
    return words.language.say("difference: {difference}").format(difference=said) if said else ""


def _parents(story: Story, version: VersionStory) -> list[tuple[str, str, str]]:
    """Follow the digests of models back through the line; the last one may lie outside it."""
    by_model = {item.model: item for item in story.versions if item.model}
    found: list[tuple[str, str, str]] = []
    current: VersionStory | None = version
    while current is not None:
        model = ModelSection() if current.receipt is None else current.receipt.model
        digest = printable(current.parent or model.digest_before or "")
        if not digest or any(digest == known for _, known, _ in found):
            break
        current = by_model.get(digest)
        page = "" if current is None else f"version-{current.place}.html"
        found.append((printable(model.name), digest, page))
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
