"""The spine: the only place where two verbs meet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import artefact, data, evaluation, families, surgery
from ssmith.core.inspection import Inspection
from ssmith.core.preparation import PrepareConfig
from ssmith.core.sequences import SPLITS, SequenceData, Sequences
from ssmith.core.text import Text
from ssmith.evaluation import ParityReport
from ssmith.families import SequenceModel
from ssmith.recordings import prepare, prepared_as
from ssmith.tune import adapters

load = artefact.load
based_on = artefact.based_on
load_sequence_model = artefact.load_sequence_model
save = artefact.save
verify = artefact.verify
prune_ = surgery.prune_
evaluate = evaluation.evaluate
compare = evaluation.compare
check_paths = evaluation.check_paths
PathParityConfig = evaluation.PathParityConfig
adapt_ = adapters.attach_
merge_adapter_ = adapters.merge_
save_adapter = artefact.save_adapter
load_adapter_ = artefact.load_adapter_


def inspect(model: nn.Module, name: str = "") -> Inspection:
    """Return what a model is made of: layers, states, sizes, what can be cut.

    Args:
        model: any module with S5, S4D or selective layers inside.
        name: what to call it; the class name if empty.

    Returns:
        An inspection; printing it shows a summary.

    Raises:
        ModelError: if there is no state space layer.
    """
    # Tied tensors have two names and are counted once.
    tensors = {id(item): item for item in model.state_dict(keep_vars=True).values()}.values()
    return Inspection(
        name=name or type(model).__name__,
        digest=families.model_digest(model),
        parameters=sum(item.numel() for item in model.parameters()),
        tensor_bytes=sum(item.numel() * item.element_size() for item in tensors),
        layers=families.describe(model),
        facts=_facts(model),
    )


def _facts(model: nn.Module) -> dict[str, Any]:
    if not isinstance(model, SequenceModel):
        others = families.beside(model).items()
        can = ", ".join(f"{unit} in {count} layers" for unit, count in others)
        return families.hf_facts(model) | ({"can be cut beside them": can} if can else {})
    config = model.config
    taken = f"{config.channels} channels" if config.channels else f"{config.vocabulary} token ids"
    return {"task": config.task, "input": taken, "outputs": config.outputs}


def load_data(
    spec: str | Path,
    model: nn.Module | None = None,
    *,
    seed: int = 0,
    needs: Sequence[str] = SPLITS,
    columns: Sequence[str] = (),
    recordings: PrepareConfig | None = None,
) -> SequenceData:
    """Load a data set in its splits, and check that it fits a model if one is given.

    Args:
        spec: ``embedded:NAME`` or a ``.npz``, ``.csv`` or ``.jsonl`` file; for a model that was
            trained on recordings, the like of them.
        model: the model that is to read it; its classes give the order of the labels. One that was
            trained on recordings cuts, matches and scales them as it did then.
        seed: seed of the split, where the data has none.
        needs: splits that must be there.
        columns: of the file, that are no channels; they are kept beside the sequences.
        recordings: how recordings become rows; None for data that is taken as it is.

    Returns:
        The data set.

    Raises:
        InputError: if there is no such data.
        DataError: if the data is malformed or does not fit the model.
        MissingExtraError: if a named set needs a package that is not installed.
    """
    config = families.answers_of(model)
    preparation = families.preparation_of(model)
    if preparation is not None:
        return prepared_as(preparation, spec)
    if recordings is not None:
        classes = (config.classes or None) if config else None
        return prepare(spec, recordings, classes=classes).data
    loaded = data.load_data(
        spec,
        seed=seed,
        classes=(config.classes or None) if config else None,
        task=config.task if config else None,
        needs=needs,
        columns=columns,
    )
    if config is not None:
        data.check_fits(
            loaded,
            channels=config.channels,
            vocabulary=config.vocabulary,
            outputs=config.outputs,
            task=config.task,
        )
    return loaded


def load_text(
    spec: str | Path,
    model: nn.Module | None = None,
    *,
    tokenizer: str | Path | None = None,
    field: str = "text",
    seed: int = 0,
) -> Text:
    """Load a text as token ids, for language models.

    ``load_text(...).sample(64, 2048)`` draws windows to calibrate on,
    ``load_text(...).windows(2048)`` cuts its test split into windows to measure on.

    Args:
        spec: ``stdlib:`` (the sources of the Python that runs), ``pydoc:`` (prose of its language
            reference), a text file, a ``.jsonl`` or ``.csv`` file, a directory of text files, or
            token ids as ``.npy`` or ``.bin``.
        model: the language model that is to read it. Its tokenizer is the one in the directory it
            was loaded from; a model of 256 token ids without one reads bytes.
        tokenizer: directory or hub id of a model whose tokenizer is used instead.
        field: key of the text in each line of a ``.jsonl`` file, or column of a ``.csv`` one.
        seed: of the draw of documents into splits; it belongs to the data.

    Returns:
        The text in its splits.

    Raises:
        InputError: if there is nothing at ``spec`` or its kind is unknown.
        DataError: if it is empty, not UTF-8, or does not fit the model.
        MissingExtraError: if a tokenizer needs a package that is not installed.
    """
    directory = families.directory_of(model) if tokenizer is None else artefact.locate(tokenizer)
    return data.load_text(
        spec,
        tokenizer=directory,
        vocabulary=families.vocabulary_of(model),
        field=field,
        seed=seed,
    )


def parity(
    masked: nn.Module,
    shrunk: nn.Module,
    saved: str | Path,
    part: Sequences,
    *,
    recovered: nn.Module | None = None,
) -> ParityReport:
    """Check that three ways to the same model agree: shrunk = masked, step = scan, saved = loaded.

    Args:
        masked: the dense model with the removed states masked.
        shrunk: the model with the states removed.
        saved: where the model was saved.
        part: sequences to compare on; the first few are used.
        recovered: the shrunk model after a recovery, which was saved then; None if there was none.

    Returns:
        The largest absolute differences in float64.
    """
    few = part.first(evaluation.parity.FEW)
    final = shrunk if recovered is None else recovered
    return evaluation.ParityReport(
        checks=(
            evaluation.check(
                "shrunk_vs_masked", lambda: evaluation.forward_difference(masked, shrunk, few)
            ),
            evaluation.check("step_vs_scan", lambda: evaluation.step_vs_scan(final, few)),
            evaluation.check(
                "saved_vs_loaded",
                lambda: evaluation.forward_difference(final, load(saved), few),
                tolerance=0.0,
            ),
        )
    )
