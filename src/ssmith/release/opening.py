"""Open a model before it comes into a line: what cannot be opened and checked stays outside."""

from __future__ import annotations

from pathlib import Path

from ssmith.artefact import load, locate, tuned, verify
from ssmith.artefact.adapter_config import CONFIG as ADAPTER_CONFIG
from ssmith.artefact.adapter_config import AdapterConfig
from ssmith.artefact.configs import read_any_config
from ssmith.artefact.layout import CONFIG
from ssmith.artefact.sidecar import SIDECAR, Sidecar
from ssmith.core.directories import MANIFEST
from ssmith.core.errors import ArtefactError, SsmithError
from ssmith.core.receipt import RECEIPT
from ssmith.families import model_digest
from ssmith.release.adding import Artefact
from ssmith.release.disk import in_our_words
from ssmith.release.manifest import manifest_of

MODEL = "model"


def opened(spec: str | Path) -> Artefact:
    """Open a model and check it.

    Args:
        spec: a directory, ``embedded:NAME`` or a hub id; a pilot's directory stands for its model.

    Returns:
        What there is to know of it.

    Raises:
        InputError: if there is nothing at ``spec``, or something in it cannot be kept.
        ArtefactError: if a check fails, a file is damaged, or an adapter's base is missing.
        ModelError: if a weight is not finite, or an adapter's base is another one.
    """
    found = locate(spec)
    directory = model_in(found)
    with in_our_words(directory, after="nothing was added"):
        manifest = manifest_of(directory)
    _check(directory)
    adapter = tuned.is_adapter(directory)
    base = _base(directory) if adapter else None
    own = (directory / SIDECAR).is_file()
    return Artefact(
        directory=directory,
        name=_name(spec, found),
        kind="adapter" if adapter else "model" if own else "foreign",
        manifest=manifest,
        tensors=_tensors(directory),
        parent=Sidecar.read(directory).parent if own else _named_base(directory),
        base=base,
    )


def model_in(directory: Path) -> Path:
    """Return the model of a pilot's directory; any other directory as it is."""
    inner = directory / MODEL
    holds = (directory / CONFIG).is_file() or tuned.is_adapter(directory)
    return inner if not holds and inner.is_dir() else directory


def receipts_with(spec: str | Path) -> tuple[Path, ...]:
    """Return the receipts that lie with a model: its own, and that of the pilot that made it."""
    found = locate(spec)
    places = dict.fromkeys((model_in(found) / RECEIPT, found / RECEIPT))
    return tuple(path for path in places if path.is_file())


def _check(directory: Path) -> None:
    if not (directory / MANIFEST).is_file():
        return
    failed = [check for check in verify(directory) if not check.passed]
    if failed:
        raise ArtefactError(
            f"{directory} does not verify: {failed[0].name}: {failed[0].detail}",
            next_step=f"restore it from its source; see `ssmith verify {directory}`",
        )


def _tensors(directory: Path) -> str:
    """Return the digest of a model's tensors, as a receipt of it names them."""
    if not tuned.is_adapter(directory) and read_any_config(directory).get("kind") == "network":
        # Only its own class opens it; its weights were checked against this digest.
        return Sidecar.read(directory).digest
    return model_digest(load(directory))


def _base(directory: Path) -> Artefact | None:
    named = tuned.base_of(directory)
    try:
        place = locate(named)
        if directory.resolve() in place.resolve().parents:
            return None
        return opened(named)
    except SsmithError as error:
        raise ArtefactError(
            f"the base of {directory} cannot be opened: {error.what}",
            allowed=error.allowed,
            next_step="put it where the adapter names it, and run the command again",
        ) from error


def _named_base(directory: Path) -> str | None:
    """Return the digest of the base's tensors that an adapter names."""
    if not (directory / ADAPTER_CONFIG).is_file():
        return None
    own = AdapterConfig.read(directory).own
    return None if own is None else own.base_model_digest


def _name(spec: str | Path, found: Path) -> str:
    path = Path(spec)
    if str(found) != str(path) or not path.is_absolute():
        return str(spec).rstrip("/")
    return "/".join(path.parts[-2:])
