"""``ssmith inspect``: what a model is made of."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from ssmith.cli import flags
from ssmith.cli.output import Output


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "inspect",
        about="show the layers, states and sizes of a model",
        example="ssmith inspect embedded:digits-s5",
        run=run,
    )
    command.model()


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print one row per state space layer."""
    from ssmith import api

    found = api.inspect(api.load(arguments.model), arguments.model)
    output.result(found.as_dict())
    output.line(str(found).splitlines()[0])
    for name, value in found.facts.items():
        output.line(f"{name}: {value}")
    output.table(
        ("layer", "family", "width", "units", "masked", "parameters", "notes"),
        [
            (
                layer.name,
                layer.family,
                layer.width,
                _counted(layer.units),
                _counted({name: count for name, count in layer.masked.items() if count}),
                layer.parameters,
                "; ".join(layer.notes),
            )
            for layer in found.layers
        ],
    )
    return 0


def _counted(units: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in units.items())
