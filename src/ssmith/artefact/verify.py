"""Check a saved output against its manifest, its configuration, its weights and its base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ssmith.artefact import adapters, tuned
from ssmith.artefact.adapter_config import AdapterConfig
from ssmith.artefact.configs import read_any_config
from ssmith.artefact.layout import CONFIG
from ssmith.artefact.load import load
from ssmith.artefact.locate import EMBEDDED, locate
from ssmith.artefact.restore import Build
from ssmith.artefact.sidecar import SIDECAR, Sidecar
from ssmith.artefact.weights import check_finite, read_weights
from ssmith.core.directories import FORMAT, MANIFEST, listed_in, manifest_of
from ssmith.core.errors import ArtefactError, SsmithError
from ssmith.core.files import sha256_file
from ssmith.core.receipt import RECEIPT, Receipt
from ssmith.families import model_digest
from ssmith.families.registry import tensors_digest

INNER = "model"
"""What a pilot holds: the model it left, and what it was made from."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a saved output: whether it held, or could not be made, and the evidence."""

    name: str
    passed: bool
    detail: str


def verify(spec: str | Path, *, build: Build | None = None) -> tuple[Check, ...]:
    """Check every file's digest, that the model loads, and that its weights are the named ones.

    Of an adapter, that its numbers are finite; of a pilot, the model in it as well; of both, and
    of a model that was made from another, that what they were made from is still what they name,
    down to the model that is made from none. What cannot be checked is said.

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
    if (directory / MANIFEST).is_file():
        checks = _files(directory)
    elif tuned.is_adapter(directory):
        checks = [Check(name="files", passed=True, detail=f"not checked: there is no {MANIFEST}")]
    else:
        raise ArtefactError(
            f"{directory} has no {MANIFEST}", allowed="a directory written by ssmith"
        )
    if tuned.is_adapter(directory):
        checks += _adapter(directory)
    elif (directory / CONFIG).is_file():
        checks += _weights(directory, build)
    elif (directory / INNER / MANIFEST).is_file():
        inner = verify(directory / INNER, build=build)
        checks += [replace(check, name=f"{INNER}: {check.name}") for check in inner]
    else:
        checks += [Check(name="model", passed=True, detail="there is none in this directory")]
    return (*checks, *_made_from(directory, ()))


def _adapter(directory: Path) -> list[Check]:
    try:
        _, tensors = adapters.read_adapter(directory)
        check_finite(tensors, directory)
    except SsmithError as error:
        return [Check(name="adapter", passed=False, detail=str(error))]
    count = sum(value.numel() for value in tensors.values())
    numbers = f"{len(tensors)} tensors, {count} numbers"
    return [Check(name=adapters.WEIGHTS, passed=True, detail=numbers), *_trained_on_from(directory)]


def _trained_on_from(directory: Path) -> list[Check]:
    """Return whether the adapter that one was trained on from is still what it was."""
    before = tuned.trained_on_from(directory)
    if before is None:
        return []
    label, (path, digest) = "trained on from", before
    weights = Path(path) / adapters.WEIGHTS
    if not weights.is_file():
        detail = f"{path}, not checked: it is not on this machine"
        return [Check(name=label, passed=True, detail=detail)]
    found = sha256_file(weights)
    detail = f"{path}, sha256 {found[:12]}…"
    detail += "" if found == digest else f", it was {digest[:12]}…"
    return [Check(name=label, passed=found == digest, detail=detail)]


def _made_from(directory: Path, before: tuple[Path, ...]) -> list[Check]:
    """Return whether what an output was made from is what it names, and so on to the first."""
    label = "base" if tuned.is_adapter(directory) else "made from"
    label += f" of {directory}" if before else ""
    try:
        name, digest = _parent(directory)
    except SsmithError as error:
        # What an adapter lacks to name its base is a matter of its own; a receipt must be readable.
        adapter = tuned.is_adapter(directory)
        return [Check(name=label, passed=adapter, detail="not checked: " * adapter + str(error))]
    if name is None and digest is None:
        return []
    why = ""
    if name is None or digest is None:
        known = f"digest {str(digest)[:12]}…" if name is None else name
        why = f"not checked: it names no more than {known}"
    elif not (name.startswith(EMBEDDED) or Path(name).is_dir()):
        why = f"{name}, not checked: it is not on this machine"
    if why or name is None:
        return [Check(name=label, passed=True, detail=why)]
    place = locate(name)
    if place.resolve() in (directory.resolve(), *before):
        return [Check(name=label, passed=False, detail=f"{place} is made from itself")]
    checks = _is_parent(place, name, str(digest), label)
    return checks + _made_from(place, (*before, directory.resolve()))


def _is_parent(place: Path, name: str, digest: str, label: str) -> list[Check]:
    """Return whether a model is the one of a digest, and whether its files are as listed."""
    try:
        found = load(place)
        digests = [model_digest(found), adapters.base_digest(found)]
        listed = _files(place) if (place / MANIFEST).is_file() else []
    except SsmithError as error:
        return [Check(name=label, passed=False, detail=str(error))]
    same = digest in digests
    detail = f"{name}, digest {digests[0][:12]}…"
    detail += "" if same else f", it was made from {digest[:12]}…"
    failed = [replace(item, name=f"{label}: {item.name}") for item in listed if not item.passed]
    return [Check(name=label, passed=same, detail=detail), *failed]


def _parent(directory: Path) -> tuple[str | None, str | None]:
    """Return name and digest of what an output was made from, as far as it names them."""
    if tuned.is_adapter(directory):
        own = AdapterConfig.read(directory).own
        return tuned.base_of(directory), None if own is None else own.base_model_digest
    name = digest = None
    if (directory / RECEIPT).is_file():
        receipt = Receipt.load(directory)
        if receipt.action == "compare":
            return None, None
        model = receipt.model
        name, digest = model.source or model.name or None, model.digest_before
    if digest is None and (directory / SIDECAR).is_file():
        digest = Sidecar.read(directory).parent
    return name, digest


def _files(directory: Path) -> list[Check]:
    said = listed_in(directory)
    if said is None:
        raise ArtefactError(
            f"{directory / MANIFEST} is not a manifest",
            next_step="restore the directory from its source",
        )
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
