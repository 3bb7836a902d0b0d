"""Where MODEL is: a directory, a shipped model, or a repository of a model hub."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from ssmith.artefact.layout import CONFIG, PICKLES
from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.files import beside
from ssmith.core.names import meant, unknown_name
from ssmith.core.optional import require

EMBEDDED = "embedded:"
_ALIKE = 0.6
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def embedded_names() -> tuple[str, ...]:
    """Return the names of the models that ship with the package."""
    return tuple(
        sorted(item.name for item in _embedded_root().iterdir() if (item / CONFIG).is_file())
    )


def locate(spec: str | Path) -> Path:
    """Return the directory of a model.

    Args:
        spec: a directory; ``embedded:NAME``; or a hub id ``owner/name``, which is downloaded
            (extra ``hub``), JSON, Markdown and safetensors files only.

    Returns:
        A directory on this machine.

    Raises:
        InputError: if there is nothing at ``spec``.
        ArtefactError: if it is a pickle, or the download fails.
        MissingExtraError: if a hub id is given without the extra.
    """
    text = str(spec)
    if text.startswith(EMBEDDED):
        return _embedded(text.removeprefix(EMBEDDED))
    path = Path(spec)
    if path.suffix.lower() in PICKLES:
        raise ArtefactError(
            f"{path} is a pickle, which can run code when it is opened",
            allowed="a directory with model.safetensors and config.json",
            next_step="convert it to safetensors where you trust it",
        )
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(
            f"{path} is a file",
            allowed="a model directory",
            next_step="give the directory that holds config.json and model.safetensors",
        )
    if _HUB_ID.fullmatch(text):
        return _download(text)
    raise InputError(
        f"no model at {text!r}",
        allowed=f"a directory, a hub id owner/name, or {EMBEDDED}NAME with NAME one of "
        + ", ".join(embedded_names()),
        next_step=_meant(text) or "check the path, or see `ssmith list` for the models that ship",
    )


def _meant(text: str) -> str:
    """Return what may be meant where there is no model: one that ships, or a path close by."""
    shipped = meant(text, embedded_names(), prefix=EMBEDDED, cutoff=_ALIKE)
    return shipped if text in embedded_names() else beside(Path(text)) or shipped


def _embedded_root() -> Path:
    return Path(str(files("ssmith.artefact"))) / "embedded"


def _embedded(name: str) -> Path:
    names = embedded_names()
    if name not in names:
        raise unknown_name(f"no embedded model {name!r}", name, names, prefix=EMBEDDED)
    return _embedded_root() / name


def _download(repository: str) -> Path:
    question = beside(Path(repository))
    near = f" ({question})" if question else ""
    hub = require(
        "huggingface_hub",
        extra="hub",
        purpose=f"there is no directory {repository!r}{near}, and loading it from a model hub",
    )
    try:
        return Path(
            hub.snapshot_download(repository, allow_patterns=["*.json", "*.safetensors", "*.md"])
        )
    except Exception as error:
        # The hub client raises many kinds (network, login, missing); all mean the same here.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtefactError(
            f"cannot load {repository!r} from the model hub: {reason}",
            next_step=question or "check the id and the network, or give a local directory",
        ) from error
