"""Receipts that a version rests on: read from files, and held to speak of its very numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.files import read_json


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A receipt as it lies on disk.

    Args:
        path: where it came from.
        raw: its bytes, which are kept as they are.
        content: what they say.
    """

    path: Path
    raw: bytes
    content: Mapping[str, Any]


def read_paper(path: Path) -> Paper:
    """Read a receipt.

    Args:
        path: a JSON file.

    Returns:
        The receipt.

    Raises:
        ArtefactError: if it cannot be read, or is no receipt.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ArtefactError(
            f"{path} is no receipt", allowed="the receipt.json of a result",
        )  # fmt: skip
    raw = path.read_bytes()
    if json.loads(raw) != content:
        raise ArtefactError(f"{path} changed while it was read", next_step="run it again")
    return Paper(path=path, raw=raw, content=content)


def refuse_foreign(paper: Paper, *, tensors: str, made_of: frozenset[str]) -> None:
    """Raise unless a receipt speaks of a version.

    Args:
        paper: the receipt.
        tensors: digest of the version's tensors.
        made_of: digests of the tensors of what it was made of.

    Raises:
        InputError: if it names other numbers; with both digests.
    """
    model = paper.content["model"]
    said = model.get("digest_after")
    if said == tensors:
        return
    before = model.get("digest_before")
    if said is None and paper.content.get("action") == "tune" and before in made_of:
        # A receipt of tuning is written before the model is; it names what was tuned.
        return
    named = "no model that was made" if said is None else f"the model {said}"
    raise InputError(
        f"{paper.path} does not speak of this version: it names {named}, and this one is {tensors}",
        next_step="give the receipt that was written with this model, or add the model it names",
    )
