"""What every benchmark does with its numbers: store them raw, and end with one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssmith.core.files import write_json
from ssmith.core.receipt import versions

RESULTS = Path(__file__).resolve().parent / "results"


def record(name: str, raw: dict[str, Any], summary: dict[str, Any], *, quick: bool) -> None:
    """Store raw results with machine and versions, and print the summary as the last line.

    A quick run is stored beside the full one, never over it.
    """
    path = RESULTS / f"{name}{'-quick' if quick else ''}.json"
    write_json(path, {"summary": summary, "versions": versions(), "quick": quick, **raw})
    print(json.dumps({"benchmark": name, "quick": quick, **summary}, sort_keys=True))
