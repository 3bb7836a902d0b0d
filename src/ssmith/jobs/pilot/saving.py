"""The model a pilot leaves: saved, and opened again to be compared."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from torch import nn

from ssmith import api
from ssmith.artefact.portable import is_language_model
from ssmith.core.receipt import RECEIPT
from ssmith.families import SequenceModel
from ssmith.jobs.pilot.cut import Made

MODEL = "model"


def save_cut(model: nn.Module, made: Made, path: Path, *, name: str, digest: str) -> None:
    """Save what is left of a model, with plan and receipt beside it.

    Name and digest are of what was given: of an adapter, whose merged weights were cut, its own.
    """
    text = f"{kept_words(made)}, by {made.method.criterion['name']}."
    # The pilot's own receipt says when: a model that is saved again has the same bytes.
    about = replace(made.done.model, name=name, digest_before=digest)
    receipt = replace(made.done, time=None, model=about)
    api.save(
        model,
        path,
        overwrite=True,
        parent=made.plan.model_digest,
        facts={"title": "Pruned state space model", "text": [text]},
        extra_files={**made.plan.files(), RECEIPT: receipt.to_json().encode()},
    )


def open_saved(path: Path, dense: nn.Module) -> nn.Module:
    """Open what `save_cut` saved.

    Networks of the user's own are built of the dense model.
    """
    if isinstance(dense, SequenceModel) or is_language_model(dense):
        return api.load(path)
    return api.load(path, build=lambda: copy.deepcopy(dense))


def kept_words(made: Made) -> str:
    """Return how much of each unit is left, in words."""
    return ", ".join(
        f"{facts.after} of {facts.before} {unit} kept" for unit, facts in made.done.removed.items()
    )
