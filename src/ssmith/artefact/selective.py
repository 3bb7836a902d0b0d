"""Hugging Face models that ssmith cut: saved so that stock code opens them wherever it can."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith.artefact import hugging_face
from ssmith.artefact.card import page
from ssmith.artefact.layout import CARD, CONFIG, MANIFEST, manifest_of
from ssmith.artefact.sidecar import MASKS, SIDECAR, Sidecar, is_offset
from ssmith.core.errors import InputError, NumericalError
from ssmith.core.files import new_directory, read_json, write_bytes, write_json, write_text
from ssmith.core.optional import require
from ssmith.families import model_digest
from ssmith.families.masks import reapply_masks_

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
    "generation_config.json",
)  # fmt: skip
"""What is carried over from the directory a model was loaded from."""


def save_selective(
    model: Any,
    path: str | Path,
    *,
    overwrite: bool = False,
    parent: str | None = None,
    facts: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, str | bytes] | None = None,
    source: Path | None = None,
) -> Path:
    """Save a Hugging Face model with selective layers, and what its cuts mean.

    Args:
        model: a transformers model.
        path: the directory to make.
        overwrite: replace an earlier model; nothing else is ever replaced.
        parent: digest of the model this one was made from.
        facts: JSON-ready facts for the card (title, text, table).
        extra_files: further files by name (a receipt, a plan).
        source: directory the model came from; its tokeniser's files are copied.

    Returns:
        The directory.

    Raises:
        NumericalError: if a weight is not finite.
        InputError: if a further file has a name that is taken or leaves the directory.
        OutputExistsError: if something is at ``path`` that may not be replaced.
        ArtefactError: if the disk refuses.
    """
    # After an optimiser's last step no forward pass has put cut entries back.
    reapply_masks_(model)
    for name, value in model.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise NumericalError(f"{name} has non-finite values; nothing was written")
    transformers = require("transformers", extra="hf", purpose="saving a Hugging Face model")
    sidecar = Sidecar.of(model, model_digest(model), parent)
    with new_directory(Path(path), overwrite=overwrite, marker=MANIFEST) as scratch:
        with hugging_face.quiet(transformers):
            stock = {
                name: value for name, value in model.state_dict().items() if not is_offset(name)
            }
            model.save_pretrained(scratch, state_dict=stock)
        sidecar.write(scratch)
        finish(scratch, sidecar, facts or {}, extra_files or {}, source)
    return Path(path)


def finish(
    scratch: Path,
    sidecar: Sidecar,
    facts: Mapping[str, Any],
    extra_files: Mapping[str, str | bytes],
    source: Path | None,
) -> None:
    """Write card, further files and manifest into a directory that holds weights and sidecar.

    Args:
        scratch: the directory that is being made.
        sidecar: what the cuts mean.
        facts: for the card.
        extra_files: further files by name.
        source: directory to copy the tokeniser's files from, or None.

    Raises:
        InputError: if a further file has a name that is taken or leaves the directory.
    """
    config = read_json(scratch / CONFIG)
    if config.get("rescale_prenorm_residual"):
        # transformers applies it to weights it has just read, too, and so shrinks out_proj.
        write_json(scratch / CONFIG, config | {"rescale_prenorm_residual": False})
    for name in TOKENIZER_FILES:
        if source is not None and (source / name).is_file() and not (scratch / name).exists():
            shutil.copyfile(source / name, scratch / name)
    write_text(scratch / CARD, _card(sidecar, facts))
    taken = {item.name for item in scratch.iterdir()} | {MANIFEST}
    for name, content in extra_files.items():
        if not name or name in taken or Path(name).name != name:
            raise InputError(
                f"further file {name!r}", allowed=f"a plain name, none of {sorted(taken)}"
            )
        write_bytes(scratch / name, content.encode() if isinstance(content, str) else content)
    write_json(scratch / MANIFEST, manifest_of(scratch))


def build(directory: Path, content: dict[str, Any]) -> nn.Module:
    """Build a model saved by `save_selective`.

    Args:
        directory: of the model.
        content: its configuration.

    Returns:
        A transformers model with its masks and semantics.

    Raises:
        ArtefactError: if a file is missing or truncated, or weights, masks and semantics disagree.
        ModelError: if a weight is not finite.
    """
    sidecar = Sidecar.read(directory)
    model: nn.Module
    if sidecar.equal_sizes:
        model = hugging_face.build(directory, content)
    else:
        model = hugging_face.build_unequal(directory, content, sidecar.state_sizes)
    sidecar.attach_(model, directory)
    return model


def _card(sidecar: Sidecar, facts: Mapping[str, Any]) -> str:
    """Return the card as Markdown with front matter."""
    sizes = sorted(set(sidecar.state_sizes.values()))
    opened = "stock transformers and ssmith"
    if not sidecar.equal_sizes:
        opened = "ssmith only: layers hold unequal numbers of states"
    elif sidecar.offsets:
        opened = "ssmith; stock transformers leaves the offsets of recovery out"
    rows = {
        "cut entries": sidecar.semantics or "none",
        "states per channel": ", ".join(map(str, sizes)),
        "opened by": opened,
        "digest": f"`{sidecar.digest}`",
        "made from": f"`{sidecar.parent}`" if sidecar.parent else "unknown",
    }
    return page(
        ("transformers", "text-generation"),
        {"title": "State space language model", **facts},
        rows,
        (f"What was cut stands in `{SIDECAR}`; masks in `{MASKS}`.",),
    )
