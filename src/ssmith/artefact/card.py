"""The model card: what the model is, from what it was made, how it was measured."""

from __future__ import annotations

from typing import Any

from ssmith.families import SequenceModel, describe


def card(model: SequenceModel, config: dict[str, Any]) -> str:
    """Return the card as Markdown with front matter.

    Args:
        model: the model that is saved.
        config: the content of ``config.json``.

    Returns:
        Markdown.
    """
    facts = config["facts"]
    lines = [
        "---",
        "library_name: ssmith",
        f"pipeline_tag: {_tag(model.config.task)}",
        "---",
        "",
        f"# {facts.get('title', 'State space sequence model')}",
        "",
        *(f"{text}\n" for text in facts.get("text", [])),
        "| | |",
        "|---|---|",
        f"| family | {model.config.family}{_direction(model)} |",
        f"| width, layers | {model.config.width}, {len(model.config.states)} |",
        f"| states | {sum(info.units['states'] for info in describe(model))} in all |",
        f"| parameters | {sum(item.numel() for item in model.parameters()):,} |",
        f"| digest | `{config['digest']}` |",
        f"| made from | {'`' + config['parent'] + '`' if config['parent'] else 'scratch'} |",
        *(f"| {name} | {value} |" for name, value in facts.get("table", {}).items()),
        "",
    ]
    return "\n".join(lines)


def _tag(task: str) -> str:
    return "time-series-forecasting" if task == "forecast" else f"sequence-{task}"


def _direction(model: SequenceModel) -> str:
    return ", bidirectional" if model.config.options.bidirectional else ""
