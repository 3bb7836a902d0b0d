"""Windows of text as token ids: what language models are calibrated and measured on."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from ssmith.core.errors import DataError
from ssmith.core.rows import Batch, InOrder, where_some
from ssmith.core.sections import DataSection
from ssmith.core.trees import digest_of, placed


@dataclass(frozen=True, kw_only=True)
class TokenWindows(InOrder):
    """Rows of token ids cut from one text, padded on the right.

    Args:
        ids: token ids; padding holds 0.
        lengths: valid tokens of each row, ≥ 1.
        scored_from: per row, the first position whose token is predicted and counted, ≥ 1; what
            lies before it is context only (overlapping windows of a stride).
        text_bytes: per row, UTF-8 bytes the counted tokens stand for; None if not known.
        vocabulary: number of token ids.
        name: what users call the text.
        source: where it comes from, in words.
        sha256: digest over the whole text's token ids, so that a receipt can name it.
        details: how the rows were cut (samples, length, stride, seed, split), JSON-ready.
    """

    ids: Int64[Tensor, "w l"]
    lengths: Int64[Tensor, "w"]
    scored_from: Int64[Tensor, "w"]
    text_bytes: Int64[Tensor, "w"] | None
    vocabulary: int
    name: str
    source: str = ""
    sha256: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self):
            raise DataError(f"{self.name} has no window", next_step="give a longer text")

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def tokens(self) -> int:
        """Valid tokens in all rows."""
        return int(self.lengths.sum())

    @property
    def scored(self) -> int:
        """Tokens that are predicted and counted in all rows."""
        return int((self.lengths - self.scored_from).clamp(min=0).sum())

    @property
    def pad_share(self) -> float:
        """Fraction of positions that are padding, in [0, 1)."""
        return 1.0 - self.tokens / self.ids.numel()

    def take(self, index: Int64[Tensor, "i"]) -> TokenWindows:
        """Return the chosen rows, trimmed to the longest of them."""
        found = self._rows(index)
        longest = int(found.lengths.max()) if len(index) else 0
        return replace(found, ids=found.ids[:, :longest])

    def _rows(self, index: Int64[Tensor, "i"] | slice) -> TokenWindows:
        return replace(
            self,
            ids=self.ids[index],
            lengths=self.lengths[index],
            scored_from=self.scored_from[index],
            text_bytes=None if self.text_bytes is None else self.text_bytes[index],
        )

    def first(self, count: int) -> TokenWindows:
        """Return the first ``count`` rows, or all if there are fewer."""
        return self.take(torch.arange(min(count, len(self))))

    def spread(self, count: int) -> TokenWindows:
        """Return ``count`` rows at even distances, or all if there are fewer.

        Neighbours are cut from one document and say much the same; rows from all over a text
        stand for it.
        """
        if count >= len(self):
            return self
        return self.take(torch.arange(count) * len(self) // count)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all tensors."""
        return digest_of([self.ids, self.lengths, self.scored_from, self.text_bytes])

    def batch(self, items: range) -> Batch:
        """Return some rows, as long as all of them are."""
        inputs = self._rows(slice(items.start, items.stop))
        valid = where_some(torch.arange(self.ids.shape[1]) < inputs.lengths[:, None])
        return Batch(inputs=inputs, valid=valid, count=len(inputs))

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run a language model, on its device, by the names that transformers gives its inputs."""
        ids = placed(batch.inputs.ids, model)
        takes = inspect.signature(model.forward).parameters
        if "input_ids" not in takes:
            return model(ids)
        known: dict[str, Any] = {"use_cache": False}
        if isinstance(batch.valid, Tensor):
            known["attention_mask"] = placed(batch.valid.long(), model)
        # Some models of transformers hand on what they do not name, a cache they would fill too.
        unnamed = hasattr(getattr(model, "config", None), "use_cache") and any(
            item.kind is inspect.Parameter.VAR_KEYWORD for item in takes.values()
        )
        return model(
            ids, **{name: item for name, item in known.items() if unnamed or name in takes}
        )

    def describe(self) -> DataSection:
        """Return the data section of a receipt."""
        return DataSection(
            name=self.name,
            sha256=self.sha256,
            source=self.source,
            windows=len(self),
            tokens=self.tokens,
            scored_tokens=self.scored,
            pad_share=self.pad_share,
            details=self.details,
        )
