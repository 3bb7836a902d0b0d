"""Does this data fit that model?"""

from __future__ import annotations

import math

from ssmith.core.errors import DataError, InputError
from ssmith.core.sequences import SequenceData, Task
from ssmith.core.words import number_of
from ssmith.data.checks import check_tokens
from ssmith.data.pool import valid_steps


def check_fits(
    data: SequenceData, *, channels: int | None, vocabulary: int | None, outputs: int, task: Task
) -> None:
    """Refuse data that a model cannot take."""
    if (channels is None) == (vocabulary is None):
        raise InputError(
            f"channels is {channels}, vocabulary is {vocabulary}", allowed="exactly one of them"
        )
    if data.task != task:
        raise DataError(f"{data.name} is for {data.task}", allowed=f"{task}, as the model does")
    if channels is not None:
        _check_channels(data, channels)
    if vocabulary is not None:
        _check_vocabulary(data, vocabulary)
    _check_outputs(data, outputs)


def _check_channels(data: SequenceData, channels: int) -> None:
    if data.vocabulary is not None:
        raise DataError(
            f"{data.name} holds tokens",
            allowed=f"a real-valued series with {number_of(channels, 'channel')}, as the model "
            "takes",
        )
    for name, part in data.splits.items():
        if part.x.shape[-1] != channels:
            raise DataError(
                f"{data.name} has {number_of(part.x.shape[-1], 'channel')} in split {name}",
                allowed=f"{channels}, as the model takes",
            )


def _check_vocabulary(data: SequenceData, vocabulary: int) -> None:
    if data.vocabulary is None:
        raise DataError(
            f"{data.name} is a real-valued series",
            allowed=f"tokens 0 to {vocabulary - 1}, as the model takes",
        )
    for name, part in data.splits.items():
        valid = valid_steps(part.lengths, part.x.shape[1])
        check_tokens(part.x, valid, vocabulary=vocabulary, where=f"{data.name}, split {name}")


def _check_outputs(data: SequenceData, outputs: int) -> None:
    if data.task == "classification":
        if len(data.classes) != outputs:
            raise DataError(
                f"{data.name} has {len(data.classes)} classes",
                allowed=f"{outputs}, as the model has outputs",
            )
        return
    for name, part in data.splits.items():
        targets = math.prod(part.y.shape[1:])
        if targets != outputs:
            raise DataError(
                f"{data.name} has {number_of(targets, 'target')} per sequence in split {name}",
                allowed=f"{outputs}, as the model has outputs",
            )
