"""Rows of text in a trial: what each language model makes of them, in nats per token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ssmith.core.errors import DataError
from ssmith.core.tokenizer import Tokenizer
from ssmith.core.tokens import TokenWindows
from ssmith.data import find_tokenizer
from ssmith.evaluation import tasks
from ssmith.evaluation.task import outcomes_of
from ssmith.families import Answers, answers_of, directory_of, vocabulary_of

NATS = Answers(task="regression", outputs=1, classes=(), channels=1, vocabulary=None)
"""What a language model answers to a row, as models of sequences say it."""
_TASK = tasks.TASKS["perplexity"]


@dataclass(frozen=True, kw_only=True)
class TrialTexts:
    """How two language models read rows: the tokenizer of the old one, the vocabulary of both."""

    tokenizer: Tokenizer
    vocabulary: int

    @staticmethod
    def of(old: nn.Module, new: nn.Module) -> TrialTexts | None:
        """Return how they read; None if they are no language models of one vocabulary."""
        vocabulary = vocabulary_of(old)
        answering = answers_of(old) is not None or answers_of(new) is not None
        if answering or vocabulary is None or vocabulary != vocabulary_of(new):
            return None
        return TrialTexts(
            tokenizer=find_tokenizer(directory_of(old), vocabulary), vocabulary=vocabulary
        )

    def windows(self, texts: Sequence[Any]) -> TokenWindows:
        """Return rows, each a text or its token ids, one window each.

        Raises `DataError` if a row is no text of two tokens or more.
        """
        rows = [self._ids(one) for one in texts]
        lengths = torch.tensor([len(row) for row in rows])
        ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        return TokenWindows(
            ids=ids, lengths=lengths, scored_from=torch.ones_like(lengths), text_bytes=None,
            vocabulary=self.vocabulary, name="rows",
        )  # fmt: skip

    def _ids(self, one: Any) -> list[int]:
        ids = self.tokenizer.encode(one) if isinstance(one, str) else one
        known = isinstance(ids, list) and all(
            isinstance(item, int) and 0 <= item < self.vocabulary for item in ids
        )
        if not known or len(ids) < 2:
            raise DataError(
                f"a row is {str(one)[:40]!r}",
                allowed=f"a text of two tokens or more, or their ids below {self.vocabulary}",
            )
        return list(ids)


def nats_per_token(model: nn.Module, windows: TokenWindows) -> list[list[float]]:
    """Return for each row how surprising a model finds a token of it on average, in nats."""
    found = outcomes_of(_TASK, model, windows)
    assert found.weight is not None
    return [[float(value)] for value in found.numerator / found.weight]
