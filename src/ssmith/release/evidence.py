"""Receipts that a version rests on: read from files, and held to speak of its very numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssmith.core.errors import ArtefactError, InputError, SsmithError
from ssmith.core.files import parse_json, read_json
from ssmith.core.receipt import Receipt
from ssmith.release.log import Entry


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A receipt as it lies on disk, with its bytes, which are kept as they are."""

    path: Path
    raw: bytes
    receipt: Receipt


def read_paper(path: Path) -> Paper:
    """Read a receipt from its file; raises `ArtefactError` if it is none, or changes meanwhile."""
    content = read_json(path)
    raw = path.read_bytes()
    if parse_json(raw) != content:
        raise ArtefactError(f"{path} changed while it was read", next_step="run it again")
    return Paper(path=path, raw=raw, receipt=Receipt.from_json(content, str(path)))


def refuse_foreign(paper: Paper, *, tensors: str, made_of: frozenset[str]) -> None:
    """Raise `InputError` unless a receipt speaks of a version, or of what it was made of."""
    if speaks(paper.receipt, tensors=tensors, made_of=made_of):
        return
    said = paper.receipt.model.digest_after
    named = "no model that was made" if said is None else f"the model {said}"
    raise InputError(
        f"{paper.path} does not speak of this version: it names {named}, and this one is {tensors}",
        next_step="give the receipt that was written with this model, or add the model it names",
    )


def speaks(receipt: Receipt, *, tensors: str, made_of: frozenset[str]) -> bool:
    """Return whether a receipt names a version's numbers."""
    model = receipt.model
    if model.digest_after is None and receipt.action == "tune":
        # A receipt of tuning is written before the model is; it names what was tuned.
        return model.digest_before in made_of
    return model.digest_after == tensors


def of_version(path: Path, added: Entry) -> str:
    """Return why a receipt is not one of the version that an entry added; nothing if it is."""
    try:
        receipt = read_paper(path).receipt
    except SsmithError as error:
        return error.what
    if speaks(receipt, tensors=str(added.details.get("tensors")), made_of=made_of(added)):
        return ""
    return "does not speak of the version that rests on it"


def made_of(added: Entry) -> frozenset[str]:
    """Return digests of the tensors of what a version was made of, by the entry that added it."""
    found = (added.details.get("parent"), added.details.get("base_tensors"))
    return frozenset(str(item) for item in found if item is not None)
