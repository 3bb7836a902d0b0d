"""The model card: what the model is, from what it was made, how it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ssmith.families import SequenceModel, describe


def card(model: SequenceModel, config: dict[str, Any]) -> str:
    """Return the card of a sequence model.

    Args:
        model: the model that is saved.
        config: the content of ``config.json``.

    Returns:
        Markdown.
    """
    task, facts = model.config.task, config["facts"]
    both = ", bidirectional" if model.config.options.bidirectional else ""
    rows = {
        "family": f"{model.config.family}{both}",
        "width, layers": f"{model.config.width}, {len(model.config.states)}",
        "states": f"{sum(info.units['state'] for info in describe(model))} in all",
        "parameters": f"{sum(item.numel() for item in model.parameters()):,}",
        "digest": f"`{config['digest']}`",
        "made from": f"`{config['parent']}`" if config["parent"] else "scratch",
    }
    tag = "time-series-forecasting" if task == "forecast" else f"sequence-{task}"
    return page(("ssmith", tag), {"title": "State space sequence model", **facts}, rows)


def page(
    front: tuple[str, str],
    facts: Mapping[str, Any],
    rows: Mapping[str, str],
    notes: Sequence[str] = (),
) -> str:
    """Return a card as Markdown with front matter.

    Args:
        front: the library that opens the model, and the hub's name of its task.
        facts: ``title``, ``text`` (sentences) and ``table`` (what was measured).
        rows: of the table, before those of the facts.
        notes: sentences behind those of the facts.

    Returns:
        Markdown.
    """
    lines = [
        "---", f"library_name: {front[0]}", f"pipeline_tag: {front[1]}", "---", "",
        f"# {facts['title']}", "",
        *(f"{text}\n" for text in (*facts.get("text", ()), *notes)),
        "| | |", "|---|---|",
        *(f"| {name} | {value} |" for name, value in {**rows, **facts.get("table", {})}.items()),
        "",
    ]  # fmt: skip
    return "\n".join(lines)
