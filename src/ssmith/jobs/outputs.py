"""Where a job may write, and what its files are called."""

from __future__ import annotations

from pathlib import Path

from ssmith.core.errors import OutputExistsError

RECIPE = "recipe.yaml"


def refuse_own_input(out: Path, *inputs: str | Path) -> None:
    """Raise if an output would replace what the job reads, whether or not it may overwrite."""
    place = out.resolve()
    for item in inputs:
        path = Path(item)
        if path.exists() and place in (path.resolve(), *path.resolve().parents):
            raise OutputExistsError(
                f"output {out} would replace the input {item}",
                next_step="choose another output",
            )
