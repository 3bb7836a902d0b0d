"""Tokenizers: plain bytes, or the one that stands beside a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError, DataError
from ssmith.core.optional import require
from ssmith.core.tokenizer import Tokenizer

BYTES = 256
_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt",
    "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json",
)  # fmt: skip
_PROBE = "a"


@dataclass(frozen=True, kw_only=True)
class ByteTokenizer:
    """UTF-8 bytes as token ids; byte 0, which no text holds, ends a text.

    Args:
        vocabulary: number of token ids of the model, ≥ 256; those above 255 are never produced.
    """

    vocabulary: int = BYTES
    name: str = "bytes"
    end: int = 0
    begin: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        """Return the bytes of a text."""
        if "\x00" in text:
            raise DataError(
                "a text holds the character 0, which marks the end", allowed="any other"
            )
        return list(_utf8(text))

    def placed(self, text: str) -> tuple[list[int], list[int] | None]:
        """Return the bytes of a text, and the character that each is the last of, or within."""
        ids = self.encode(text)
        return ids, [place for place, item in enumerate(text, start=1) for _ in item.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some bytes; what is not UTF-8 becomes the replacement character."""
        return bytes(item for item in ids if 0 < item < BYTES).decode(errors="replace")

    def render(self, turns: Sequence[Mapping[str, Any]], *, asked: bool = False) -> str:
        """Refuse: bytes come without a template."""
        raise _no_template(self.name)


@dataclass(frozen=True, kw_only=True)
class ModelTokenizer:
    """A tokenizer that transformers opened, for a model of so many token ids."""

    inner: Any
    name: str
    vocabulary: int

    @property
    def end(self) -> int | None:
        """The id that ends a text; None if there is none."""
        found = self.inner.eos_token_id
        return None if found is None else int(found)

    @cached_property
    def begin(self) -> tuple[int, ...]:
        """The ids that the tokenizer's own post-processor puts before a text."""
        plain, marked = (self._made(_PROBE, marks=marks)["input_ids"] for marks in (False, True))
        places = range(len(marked) - len(plain) + 1)
        start = next((k for k in places if marked[k : k + len(plain)] == plain), 0)
        return tuple(marked[:start])

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return self.placed(text)[0]

    def placed(self, text: str) -> tuple[list[int], list[int] | None]:
        """Return the ids of a text and the character each ends with, where the tokenizer tells."""
        _utf8(text)
        made = self._made(text, marks=False)
        ids: list[int] = made["input_ids"]
        if ids and max(ids) >= self.vocabulary:
            raise DataError(
                f"the tokenizer gives id {max(ids)}",
                allowed=f"0 to {self.vocabulary - 1}, the model's vocabulary",
                next_step="use the tokenizer of this model",
            )
        known = "offset_mapping" in made
        return ids, [end for _, end in made["offset_mapping"]] if known else None

    def _made(self, text: str, *, marks: bool) -> Any:
        try:
            return self.inner(
                text,
                add_special_tokens=marks,
                return_offsets_mapping=bool(self.inner.is_fast),
                verbose=False,
            )
        except BaseException as error:
            # A tokenizer's settings may be sound JSON and still of no use to transformers.
            if not _is_fault(error):
                raise
            raise ArtefactError(
                f"the model's tokenizer ({self.name}) fails: {error}",
                next_step="restore its files from their source",
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, special ones left out."""
        text: str = self.inner.decode(list(ids), skip_special_tokens=True)
        return text

    def render(self, turns: Sequence[Mapping[str, Any]], *, asked: bool = False) -> str:
        """Return a conversation by the template that lies beside the model."""
        if not self.inner.chat_template:
            raise _no_template(self.name)
        try:
            text: str = self.inner.apply_chat_template(
                [dict(turn) for turn in turns], tokenize=False, add_generation_prompt=asked
            )
        except Exception as error:
            # A template is a program of its own, and raises what it likes.
            raise DataError(
                f"the model's chat template refuses a conversation: {error}",
                allowed="roles in the order that the template knows",
            ) from error
        return text


def find_tokenizer(directory: Path | None, vocabulary: int) -> Tokenizer:
    """Return the tokenizer whose files stand in a model's directory; bytes where there is none.

    Raises `DataError` if there is none and the vocabulary is not one of bytes, `ArtefactError` if
    transformers cannot open the files, `MissingExtraError` if it is needed and not installed.
    """
    if directory is not None and any((directory / name).is_file() for name in _FILES):
        return _opened(directory, vocabulary)
    if vocabulary == BYTES:
        return ByteTokenizer()
    raise DataError(
        f"the model has {vocabulary} token ids and no tokenizer beside it",
        allowed=f"{' or '.join(_FILES[:2])} in the model's directory, or {BYTES} ids for bytes",
        next_step="copy the tokenizer's files into the model's directory",
    )


def _opened(directory: Path, vocabulary: int) -> ModelTokenizer:
    transformers = require("transformers", extra="hf", purpose="the model's tokenizer")
    try:
        inner = transformers.AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except BaseException as error:
        # transformers raises many kinds for files that are not its own.
        if not _is_fault(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtefactError(
            f"{directory}: transformers cannot open the tokenizer: {reason}",
            next_step="restore it from its source",
        ) from error
    return ModelTokenizer(inner=inner, name=type(inner).__name__, vocabulary=vocabulary)


def _is_fault(error: BaseException) -> bool:
    """Whether something is an error; the tokenizers' own compiled part raises what is none."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _no_template(name: str) -> DataError:
    return DataError(
        f"the model's tokenizer ({name}) has no chat template",
        allowed="conversations for models with a template, or prompt and completion as texts",
        next_step="put chat_template.jinja into the model's directory, or write the texts yourself",
    )


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"a text holds half of a surrogate pair, {text[error.start]!a}, at character "
            f"{error.start}",
            allowed="whole characters",
            next_step="repair the text where it was written",
        ) from error
