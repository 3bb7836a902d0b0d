"""Put the reference models of training seed 0 into the package, trained if need be."""

from __future__ import annotations

import shutil
from pathlib import Path

from ssmith import api
from trained import ROOT, location, names, trained

EMBEDDED = ROOT / "src" / "ssmith" / "artefact" / "embedded"


def ship(name: str, seed: int = 0) -> Path:
    trained(name, seed)
    target = EMBEDDED / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(location(name, seed), target)
    failed = [check for check in api.verify(target) if not check.passed]
    if failed:
        raise SystemExit(f"{name}: {failed}")
    return target


if __name__ == "__main__":
    for name in names():
        print(ship(name))
