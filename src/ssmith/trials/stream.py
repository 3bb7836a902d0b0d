"""A stream of rows: a file that grows, a directory that fills, or standard input."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssmith.core.errors import DataError, InputError
from ssmith.core.files import beside

STDIN = "-"
_SUFFIX = ".jsonl"


@dataclass(frozen=True, kw_only=True)
class StreamLine:
    """One line of a file, or of ``-``, and the bytes up to its end; of ``-`` its number."""

    source: str
    end: int
    content: Mapping[str, Any]


@dataclass(kw_only=True)
class RowStream:
    """Whole lines of a ``.jsonl`` file, a directory of them, or ``-``, from where one stopped."""

    place: str
    offsets: dict[str, int] = field(default_factory=dict)
    stdin: Iterable[str] | None = None

    def lines(self) -> Iterator[StreamLine]:
        """Yield every whole line that was not read before.

        Yields:
            The lines; offsets are left to whoever has dealt with them.

        Raises:
            InputError: if there is nothing at the place.
            DataError: if a line is no JSON object.
        """
        if self.place == STDIN:
            yield from self._of_stdin()
            return
        path = Path(self.place)
        if path.is_dir():
            for file in sorted(path.glob(f"*{_SUFFIX}")):
                yield from self._of_file(file)
        elif path.is_file():
            yield from self._of_file(path)
        else:
            raise InputError(f"there is no stream at {path}", next_step=beside(path) or "check it")

    def _of_file(self, path: Path) -> Iterator[StreamLine]:
        start = self.offsets.get(path.name, 0)
        if path.stat().st_size < start:
            raise DataError(
                f"{path} is shorter than when it was read last",
                next_step="a stream only grows; begin with another state",
            )
        with path.open("rb") as stream:
            stream.seek(start)
            for raw in stream:
                # A line without its end is still being written.
                if not raw.endswith(b"\n"):
                    return
                start += len(raw)
                if raw.strip():
                    content = _read(raw, f"{path.name} at byte {start - len(raw)}")
                    yield StreamLine(source=path.name, end=start, content=content)

    def _of_stdin(self) -> Iterator[StreamLine]:
        for number, text in enumerate(self.stdin or (), start=1):
            if text.strip():
                content = _read(text.encode(), f"standard input, line {number}")
                if "id" not in content:
                    raise DataError(
                        f"standard input, line {number} has no id",
                        allowed="an id in each row, so that none is counted twice",
                    )
                yield StreamLine(source=STDIN, end=number, content=content)


def _read(raw: bytes, where: str) -> dict[str, Any]:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}", allowed="one object per line") from error
    if not isinstance(content, dict) or not ({"x", "y"} & content.keys()):
        raise DataError(f"{where} has neither x nor y", allowed="a row, or the label of a row")
    return content
