"""Canary of a model in this process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import nn

from ssmith import api
from ssmith.core.errors import UnsupportedError
from ssmith.core.progress import Progress, silent
from ssmith.core.running import evaluating
from ssmith.families import SequenceModel, answers_of, vocabulary_of
from ssmith.families.hf import engine
from ssmith.families.registry import mixers
from ssmith.trials.canary.interleave import CanaryConfig, CanaryRun, interleave
from ssmith.trials.canary.language import LanguageSubject
from ssmith.trials.canary.sequences import Stepping, Whole
from ssmith.trials.canary.subject import Interleavable


def subject_of(model: nn.Module, config: CanaryConfig) -> Interleavable:
    """Return how a model's requests are interleaved: it steps, writes, or answers whole sequences.

    Raises `UnsupportedError` if it neither reads tokens nor says what it answers to a sequence.
    """
    answers, name = answers_of(model), type(model).__name__
    if answers is not None:
        layers = len(api.inspect(model).layers)
        if isinstance(model, SequenceModel) and not model.config.options.bidirectional:
            return Stepping(
                model=model, answers=answers, longest=config.longest, seed=config.seed,
                layers=layers, name=name,
            )  # fmt: skip
        return Whole(
            model=model, answers=answers, longest=config.longest, seed=config.seed, layers=layers,
            name=name,
        )  # fmt: skip
    vocabulary = vocabulary_of(model)
    if vocabulary is None:
        raise UnsupportedError(
            f"{name} neither reads tokens nor says what it answers to a sequence",
            allowed="models that ssmith.load opens",
        )
    return LanguageSubject(
        model=model, vocabulary=vocabulary, longest=config.longest, following=config.following,
        seed=config.seed, name=name,
    )  # fmt: skip


def canary_of(
    model: nn.Module, config: CanaryConfig | None = None, *, progress: Progress = silent
) -> CanaryRun:
    """Interleave requests to a model in this process; each must be answered as it is alone.

    Sequence models take chunks of unlike lengths from states in slots; language models read prompts
    together, padded on the left, and go on token by token in batches of any make-up; models that
    carry no state answer whole sequences, padded in a batch. Slots that were freed, and what a call
    returned once it is copied, are poisoned with NaN. The model is left as it was.
    """
    config = config or CanaryConfig()
    subject = subject_of(model, config)
    swapped: AbstractContextManager[object] = nullcontext()
    if mixers(model)[0]:
        swapped = engine(model)
    with swapped, evaluating(model):
        return interleave(subject, config, progress=progress)
