"""Write a model: weights, configuration, what was cut, card, manifest; whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssmith.artefact import hugging_face
from ssmith.artefact.card import LANGUAGE, card
from ssmith.artefact.layout import CARD, CONFIG, WEIGHTS, seal
from ssmith.artefact.portable import by_trial, is_language_model
from ssmith.artefact.sidecar import ADDED_NAMES, Sidecar, blocks_in, masks_in, norms_in, sites_in
from ssmith.artefact.streamed import write_streamed
from ssmith.artefact.weights import complex_names, packed, shared_names, tensors_of
from ssmith.core.directories import FORMAT, FORMAT_VERSION, new_directory
from ssmith.core.errors import UnsupportedError
from ssmith.core.files import write_bytes, write_json, write_text
from ssmith.core.optional import require
from ssmith.core.preparation import FILE as PREPARATION
from ssmith.core.settings import to_mapping
from ssmith.families import SequenceModel, TaskModel, directory_of, model_digest, preparation_of
from ssmith.families.absent import held, source_of
from ssmith.families.masks import reapply_masks_
from ssmith.families.parts.stock import stock_of
from ssmith.tune.adapters import adapters_of


def save(
    model: nn.Module,
    path: str | Path,
    *,
    overwrite: bool = False,
    parent: str | None = None,
    facts: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, str | bytes] | None = None,
    source: Path | None = None,
) -> Path:
    """Save a model as a directory of safetensors, JSON and a card.

    Args:
        model: any network, masked or shrunk as it is. A `SequenceModel` and a transformers
            language model are opened by `load` alone; any other network by ``load(path,
            build=…)``, where ``build`` makes it as it was before it was cut.
        path: the directory to make.
        overwrite: replace an earlier output, all of whose files are listed in its manifest.
        parent: digest of the model this one was made from; None for one trained from scratch.
        facts: JSON-ready facts for the card (title, data, metric, how to retrain).
        extra_files: further files by name (a receipt, a plan, a recipe).
        source: directory that a language model's tokeniser is copied from; where the model came
            from if None.

    Returns:
        The directory.

    Raises:
        UnsupportedError: if the model carries adapters, or holds something other than tensors
            with numbers.
        NumericalError: if a weight is not finite, so that the model could not be loaded again.
        InputError: if a further file has a name that is taken or leaves the directory.
        OutputExistsError: if something is at ``path`` that may not be replaced.
        ArtefactError: if the disk refuses.
    """
    names = list(adapters_of(model))
    if names:
        raise UnsupportedError(
            f"the model carries adapter {names[0]!r}, which a model's file does not hold",
            next_step="save_adapter saves it by itself; or merge or detach it first",
        )
    # After an optimiser's last step no forward pass has put cut entries back.
    reapply_masks_(model)
    absent = source_of(model) is not None
    tensors = model.state_dict(keep_vars=True) if absent else tensors_of(model)
    sidecar = describe(model, tensors, parent)
    plain = {
        name: value
        for name, value in tensors.items()
        if name not in sidecar.added and name not in sidecar.shared
    }
    with new_directory(Path(path), overwrite=overwrite, sealed=True) as scratch:
        if is_language_model(model):
            _stock_files(model, plain, sidecar, scratch)
            hugging_face.copy_tokenizer(source or directory_of(model), scratch)
            text = card(sidecar, facts or {}, hub=LANGUAGE)
        else:
            write_bytes(scratch / WEIGHTS, packed(plain))
            write_json(scratch / CONFIG, _config(model, facts or {}))
            preparation = preparation_of(model)
            if preparation is not None:
                write_json(scratch / PREPARATION, preparation.as_dict())
            text = card(sidecar, facts or {}, hub=("ssmith", _task(model)), about=_about(model))
        sidecar.write(scratch)
        write_text(scratch / CARD, text)
        seal(scratch, extra_files or {})
    return Path(path)


def describe(model: nn.Module, tensors: Mapping[str, Tensor], parent: str | None) -> Sidecar:
    """Return what lies beside a model's weights."""
    sites = sites_in(model)
    owners = {name: name.rpartition(".") for name in tensors}
    added = {
        name: tensors[name]
        for name, (owner, _, last) in owners.items()
        if last in ADDED_NAMES and owner in sites
    }
    for name in [name for name in added if added[name].is_meta]:
        owner, _, last = name.rpartition(".")
        with held(model, owner) as module:
            added[name] = module.state_dict()[last]
    masked, masks = masks_in(model)
    norms = norms_in(model)
    plain, sentence = by_trial(model, sites, added, norms)
    kind = stock_of(type(model))
    rest = {name: value for name, value in tensors.items() if name not in added}
    return Sidecar(
        model=f"{kind.__module__}.{kind.__qualname__}",
        sites=sites,
        blocks=blocks_in(model),
        masked=masked,
        norms=norms,
        shared=shared_names(rest),
        pairs=complex_names(rest),
        plain=plain,
        portable=sentence,
        parameters=sum(item.numel() for item in model.parameters()),
        digest=model_digest(model),
        parent=parent,
        masks=masks,
        added=added,
    )


def _stock_files(
    model: Any, tensors: Mapping[str, Tensor], sidecar: Sidecar, scratch: Path
) -> None:
    """Write weights as transformers writes them, or as they are where it could not read them."""
    transformers = require("transformers", extra="hf", purpose="saving a Hugging Face model")
    absent = source_of(model) is not None
    with hugging_face.quiet(transformers):
        if sidecar.plain and absent:
            model.save_pretrained(scratch, state_dict={})
        elif sidecar.plain:
            state = model.state_dict().items()
            stock = {name: value for name, value in state if name not in sidecar.added}
            model.save_pretrained(scratch, state_dict=stock)
        else:
            model.config.save_pretrained(scratch)
            if not absent:
                write_bytes(scratch / WEIGHTS, packed(tensors, {"format": "pt"}))
        if absent:
            write_streamed(model, scratch, tensors, stock=sidecar.plain)
    hugging_face.settle_config(scratch)


def _config(model: nn.Module, facts: Mapping[str, Any]) -> dict[str, Any]:
    content = {"format": FORMAT, "version": FORMAT_VERSION, "facts": dict(facts)}
    if isinstance(model, SequenceModel):
        return content | {"kind": "sequence", "config": model.current_config().as_dict()}
    if isinstance(model, TaskModel) and model.size is not None:
        made = {"size": to_mapping(model.size), "head": to_mapping(model.head_config)}
        return content | {"kind": "headed", **made}
    return content | {"kind": "network"}


def _task(model: nn.Module) -> str:
    if not isinstance(model, SequenceModel):
        return ""
    forecasts = model.config.task == "forecast"
    return "time-series-forecasting" if forecasts else f"sequence-{model.config.task}"


def _about(model: nn.Module) -> dict[str, str]:
    """Return what only a model of ours can say of itself."""
    if not isinstance(model, SequenceModel):
        return {}
    both = ", bidirectional" if model.config.options.bidirectional else ""
    return {"family": model.config.family + both, "width": str(model.config.width)}
