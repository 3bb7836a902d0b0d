"""Check a saved model against its own manifest, configuration and weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssmith.artefact.adapters import CONFIG, WEIGHTS, read_adapter
from ssmith.artefact.layout import MANIFEST, manifest_of
from ssmith.artefact.load import load
from ssmith.artefact.locate import locate
from ssmith.artefact.own import read_config
from ssmith.artefact.sidecar import SIDECAR, Sidecar
from ssmith.artefact.weights import check_finite
from ssmith.core.errors import ArtefactError, SsmithError
from ssmith.core.files import read_json
from ssmith.families import model_digest


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a saved model.

    Args:
        name: what was checked.
        passed: whether it held.
        detail: the evidence, in one sentence.
    """

    name: str
    passed: bool
    detail: str


def verify(spec: str | Path) -> tuple[Check, ...]:
    """Check every file's digest, that the model loads, and that its weights are the named ones.

    Of an adapter, that its two files belong together and all its numbers are finite; whether the
    base model is the right one is checked where it is loaded.

    Args:
        spec: a directory, ``embedded:NAME`` or a hub id.

    Returns:
        All checks; none is left out because another failed.

    Raises:
        InputError: if there is nothing at ``spec``.
        ArtefactError: if there is no manifest to check against.
    """
    directory = locate(spec)
    if (directory / CONFIG).is_file():
        return _adapter(directory)
    if not (directory / MANIFEST).is_file():
        raise ArtefactError(
            f"{directory} has no {MANIFEST}", allowed="a directory written by ssmith.save"
        )
    return (*_files(directory), *_weights(directory))


def _adapter(directory: Path) -> tuple[Check, ...]:
    try:
        config, tensors = read_adapter(directory)
        check_finite(tensors, directory)
    except SsmithError as error:
        return (Check(name="adapter", passed=False, detail=str(error)),)
    count = sum(value.numel() for value in tensors.values())
    checks = [Check(name=WEIGHTS, passed=True, detail=f"{len(tensors)} tensors, {count} numbers")]
    own = config.get("ssmith")
    base = f"trained on {config.get('base_model_name_or_path') or 'a model without a name'}"
    if own is None:
        return (*checks, Check(name="base", passed=True, detail=f"{base}, no digest is named"))
    detail = f"{base}, digest {str(own['base_model_digest'])[:12]}…"
    return (*checks, Check(name="base", passed=True, detail=detail))


def _files(directory: Path) -> list[Check]:
    said = _said(directory / MANIFEST)
    real = manifest_of(directory)["files"]
    checks = [
        Check(
            name=f"file {name}",
            passed=real.get(name) == facts,
            detail=_compare(facts, real.get(name)),
        )
        for name, facts in sorted(said.items())
    ]
    strangers = sorted(set(real) - set(said))
    detail = f"not in the manifest: {', '.join(strangers)}" if strangers else "none"
    return [*checks, Check(name="no further files", passed=not strangers, detail=detail)]


def _said(path: Path) -> dict[str, dict[str, object]]:
    content = read_json(path)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not all(isinstance(item, dict) for item in files.values()):
        raise ArtefactError(
            f"{path} is not a manifest", next_step="restore the model from its source"
        )
    return files


def _said_digest(directory: Path) -> str:
    if (directory / SIDECAR).is_file():
        return Sidecar.read(directory).digest
    return str(read_config(directory)["digest"])


def _compare(said: dict[str, object], real: dict[str, object] | None) -> str:
    if real is None:
        return "missing"
    if said == real:
        return f"{real['bytes']} bytes, sha256 {str(real['sha256'])[:12]}…"
    return f"sha256 {str(real['sha256'])[:12]}…, the manifest says {str(said.get('sha256'))[:12]}…"


def _weights(directory: Path) -> list[Check]:
    try:
        digest = model_digest(load(directory))
        said = _said_digest(directory)
    except SsmithError as error:
        return [Check(name="loads", passed=False, detail=str(error))]
    same = digest == said
    detail = f"digest {digest[:12]}…" + ("" if same else f", the configuration says {said[:12]}…")
    return [
        Check(
            name="loads", passed=True, detail="every tensor present, finite and of the right shape"
        ),
        Check(name="weights", passed=same, detail=detail),
    ]
