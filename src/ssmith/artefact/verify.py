"""Check a saved output against its manifest, its configuration, its weights and its base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssmith.artefact import adapters, tuned
from ssmith.artefact.configs import read_any_config
from ssmith.artefact.layout import CONFIG, FORMAT, MANIFEST, manifest_of
from ssmith.artefact.load import load
from ssmith.artefact.locate import EMBEDDED, locate
from ssmith.artefact.restore import Build
from ssmith.artefact.sidecar import SIDECAR, Sidecar
from ssmith.artefact.weights import check_finite, read_weights
from ssmith.core.errors import ArtefactError, SsmithError
from ssmith.core.files import read_json
from ssmith.families import model_digest
from ssmith.families.registry import tensors_digest


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a saved output.

    Args:
        name: what was checked.
        passed: whether it held, or could not be checked.
        detail: the evidence, in one sentence.
    """

    name: str
    passed: bool
    detail: str


def verify(spec: str | Path, *, build: Build | None = None) -> tuple[Check, ...]:
    """Check every file's digest, that the model loads, and that its weights are the named ones.

    Of an adapter, that its numbers are finite, and that its base is the one it was trained on. Of
    any other directory with a manifest, its files. What cannot be checked is said.

    Args:
        spec: a directory, ``embedded:NAME`` or a hub id.
        build: makes the network of a model that its own class opens (see `load`); without it,
            such a model's weights are checked and the model is not built.

    Returns:
        All checks; none is left out because another failed.

    Raises:
        InputError: if there is nothing at ``spec``.
        ArtefactError: if there is no manifest to check against.
    """
    directory = locate(spec)
    is_adapter = tuned.is_adapter(directory)
    if (directory / MANIFEST).is_file():
        checks = _files(directory)
    elif is_adapter:
        checks = [Check(name="files", passed=True, detail=f"not checked: there is no {MANIFEST}")]
    else:
        raise ArtefactError(
            f"{directory} has no {MANIFEST}", allowed="a directory written by ssmith"
        )
    if is_adapter:
        return (*checks, *_adapter(directory))
    if not (directory / CONFIG).is_file():
        return (*checks, Check(name="model", passed=True, detail="there is none in this directory"))
    return (*checks, *_weights(directory, build))


def _adapter(directory: Path) -> list[Check]:
    try:
        config, tensors = adapters.read_adapter(directory)
        check_finite(tensors, directory)
    except SsmithError as error:
        return [Check(name="adapter", passed=False, detail=str(error))]
    count = sum(value.numel() for value in tensors.values())
    numbers = f"{len(tensors)} tensors, {count} numbers"
    return [
        Check(name=adapters.WEIGHTS, passed=True, detail=numbers),
        _base(directory, (config.get("ssmith") or {}).get("base_model_digest")),
    ]


def _base(directory: Path, named: str | None) -> Check:
    """Return whether an adapter's base is the one it was trained on, if it lies here."""
    try:
        base = tuned.base_of(directory)
        here = base.startswith(EMBEDDED) or Path(base).is_dir()
        if named is None or not here:
            why = "no digest is named" if named is None else "it is not on this machine"
            return Check(name="base", passed=True, detail=f"{base}, not checked: {why}")
        digest = adapters.base_digest(load(base))
    except SsmithError as error:
        return Check(name="base", passed=True, detail=f"not checked: {error}")
    same = digest == named
    detail = f"{base}, digest {digest[:12]}…" + ("" if same else f", it names {named[:12]}…")
    return Check(name="base", passed=same, detail=detail)


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
            f"{path} is not a manifest", next_step="restore the directory from its source"
        )
    return files


def _compare(said: dict[str, object], real: dict[str, object] | None) -> str:
    if real is None:
        return "missing"
    if said == real:
        return f"{real['bytes']} bytes, sha256 {str(real['sha256'])[:12]}…"
    return f"sha256 {str(real['sha256'])[:12]}…, the manifest says {str(said.get('sha256'))[:12]}…"


def _weights(directory: Path, build: Build | None) -> list[Check]:
    try:
        said = Sidecar.read(directory).digest
        digest = _digest(directory)
    except SsmithError as error:
        return [Check(name="loads", passed=False, detail=str(error))]
    same = digest == said
    detail = f"digest {digest[:12]}…" + ("" if same else f", {SIDECAR} says {said[:12]}…")
    return [_loads(directory, build), Check(name="weights", passed=same, detail=detail)]


def _loads(directory: Path, build: Build | None) -> Check:
    if build is None and read_any_config(directory).get("kind") == "network":
        why = "not built: its own class opens it, with load(path, build=…)"
        return Check(name="loads", passed=True, detail=why)
    try:
        load(directory, build=build)
    except SsmithError as error:
        return Check(name="loads", passed=False, detail=str(error))
    fits = "every tensor present, finite and of the right shape"
    return Check(name="loads", passed=True, detail=fits)


def _digest(directory: Path) -> str:
    """Return the digest of what lies in the files, without building the network if need be."""
    if read_any_config(directory).get("format") != FORMAT:
        return model_digest(load(directory))
    sidecar = Sidecar.read(directory)
    tensors = {**read_weights(directory, sidecar.pairs), **sidecar.added}
    shared = {name: tensors[of] for name, of in sidecar.shared.items() if of in tensors}
    return tensors_digest(sorted({**tensors, **shared}.items()))
