"""The model card: what the model is, from what it was made, how it was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ssmith.artefact.sidecar import Sidecar

LANGUAGE = ("transformers", "text-generation")
"""Library and task of language models, as hubs name them."""


def card(
    sidecar: Sidecar,
    facts: Mapping[str, Any],
    *,
    hub: tuple[str, str],
    about: Mapping[str, str] | None = None,
) -> str:
    """Return the card of any model as Markdown with front matter."""
    rows = {
        **(about or {}),
        "class": f"`{sidecar.model.rpartition('.')[2]}`",
        "layers": _layers(sidecar),
        **_units(sidecar),
        **_masked(sidecar),
        "parameters": f"{sidecar.parameters:,}",
        "opens in stock code": sidecar.portable,
        "digest": f"`{sidecar.digest}`",
        "made from": f"`{sidecar.parent}`" if sidecar.parent else "scratch",
        **facts.get("table", {}),
    }
    library, task = hub
    return "\n".join([
        "---", f"library_name: {library}", *([f"pipeline_tag: {task}"] if task else []), "---", "",
        f"# {facts.get('title', 'State space model')}", "",
        *(f"{text}\n" for text in facts.get("text", [])),
        "| | |", "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()), "",
    ])  # fmt: skip


def _layers(sidecar: Sidecar) -> str:
    families = Counter(site.family for site in sidecar.sites.values())
    return ", ".join(f"{count} × {family}" for family, count in families.items()) or "none"


def _units(sidecar: Sidecar) -> dict[str, str]:
    """Return for each unit how many a layer holds, and how many there are in all."""
    counts: dict[str, list[int]] = {}
    for site in sidecar.sites.values():
        for unit, size in site.sizes.items():
            counts.setdefault(unit, []).append(sum(size) if isinstance(size, list) else size)
    return {
        unit: f"{'–'.join(map(str, sorted({min(sizes), max(sizes)})))} a layer, {sum(sizes)} in all"
        for unit, sizes in counts.items()
    }


def _masked(sidecar: Sidecar) -> dict[str, str]:
    rows = {}
    meanings = sorted({site.semantics for site in sidecar.sites.values()} - {None}, key=str)
    if meanings:
        rows["cut entries"] = ", ".join(map(str, meanings))
    if sidecar.masked:
        rows["masked tensors"] = str(len(sidecar.masked))
    return rows
