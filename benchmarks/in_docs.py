"""A hook of mkdocs: the plots and raw results lie beside the evidence page that shows them."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

RESULTS = Path(__file__).resolve().parent / "results"
REFERENCE = RESULTS.parents[1] / "src" / "ssmith" / "artefact" / "embedded" / "python-mamba"
_SHOWN = (".svg", ".csv", ".json")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every plot and raw result to the site, under its own name."""
    for path in [*sorted(RESULTS.iterdir()), *sorted(REFERENCE.glob("curve.*"))]:
        if path.suffix in _SHOWN and not path.stem.endswith("-quick"):
            files.append(File.generated(config, path.name, abs_src_path=str(path)))
    return files
