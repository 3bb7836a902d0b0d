"""What a command shows: text and tables, one JSON document, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from ssmith.cli.progress import Lines, bars
from ssmith.core.findings import Finding, gravest_first

if TYPE_CHECKING:
    from ssmith.core.progress import Progress

# Wide enough that a table in a pipe or a file is not cut.
_WIDTH_WITHOUT_TERMINAL = 200


def one_line(text: object) -> str:
    """Return text as one line that a terminal can show: no breaks, no control characters."""
    joined = " ".join(str(text).split())
    return "".join(item if item.isprintable() else "?" for item in joined)


class Output:
    """Where a command's results go.

    As JSON there is one document on stdout and nothing else there; quiet, nothing on stdout and no
    progress.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._document: dict[str, Any] | None = None
        self._stdout = sys.stdout

    @property
    def _silent(self) -> bool:
        return self.as_json or self.quiet

    def line(self, text: str) -> None:
        """Print one line, unless it is JSON or silence that was asked for."""
        if not self._silent:
            # What is said before long work is read before it, in a log as well.
            print(one_line(text), flush=True)

    def exactly(self, text: str) -> None:
        """Print text as it is, unless it is JSON or silence that was asked for."""
        if not self._silent:
            print(text, flush=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table; columns of numbers stand to the right."""
        if self._silent:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for index, name in enumerate(columns):
            right = bool(rows) and all(_is_number(row[index]) for row in rows)
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(item)) for item in row))
        _console(sys.stdout).print(table)

    def findings(self, findings: Iterable[Finding]) -> None:
        """Print what must be known of a result, the gravest first, with layers where it is of one.

        Args:
            findings: of any order.
        """
        for item in gravest_first(findings):
            where = "" if item.layer in item.message else f"{item.layer}: "
            self.line(f"{'warning' if item.grave else 'note'}: {where}{item.message}")

    def result(self, document: dict[str, Any]) -> None:
        """Take the JSON document of the command; printed at its end if it was asked for."""
        self._document = document

    def record(self, document: dict[str, Any]) -> None:
        """Print one document of many at once, as a line of JSON, if JSON was asked for."""
        if self.as_json:
            text = json.dumps(document, sort_keys=True, allow_nan=False)
            print(text, file=self._stdout, flush=True)

    @contextmanager
    def captured(self) -> Iterator[None]:
        """Keep stdout free for the document: what else is printed inside goes to stderr."""
        if not self.as_json:
            yield
            return
        self._stdout = sys.stdout
        with redirect_stdout(sys.stderr):
            yield
        if self._document is not None:
            print_json(self._document)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield a listener: bars on a terminal, a few lines in a log, silence if asked for."""
        if self._silent:
            yield _nothing
        elif sys.stderr.isatty():
            with bars(_console(sys.stderr), one_line) as drawn:
                yield drawn
        else:
            yield Lines(_log)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout, in ASCII so that no terminal setting can spoil it."""
    print(json.dumps(document, indent=2, sort_keys=True, allow_nan=False), flush=True)


def _log(text: str) -> None:
    print(one_line(text), file=sys.stderr, flush=True)


def _nothing(stage: str, done: float, total: int, note: str = "") -> None:
    """Ignore progress."""


def _console(stream: Any) -> Any:
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            """Leave it to `run`, where rich would exit with the code of a failed check."""
            raise BrokenPipeError

    width = None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL
    return Plain(file=stream, width=width, markup=False, highlight=False, emoji=False)


def _is_number(item: object) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def _cell(item: object) -> str:
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}"
    return f"{item:.4g}" if isinstance(item, float) else one_line(item)
