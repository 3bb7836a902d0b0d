"""Prose every machine has: Python's language reference, as ``help()`` prints it."""

from __future__ import annotations

import sys
from importlib import import_module

from ssmith.core.errors import DataError
from ssmith.data.documents import Document, Documents

PROSE = "pydoc"


def read_prose() -> Documents:
    """Read the chapters of the language reference that come with the Python that runs.

    English prose with short examples: another domain than the library's sources.
    """
    try:
        chapters: dict[str, str] = import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise DataError(
            "this Python comes without pydoc_data.topics", next_step="use a Python with its library"
        ) from error
    version = ".".join(map(str, sys.version_info[:3]))
    return Documents(
        name=PROSE,
        source=f"the language reference of Python {version}, as help() prints it",
        items=tuple(
            Document(name=name, content=text.encode())
            for name, text in sorted(chapters.items())
            if text.strip()
        ),
        details={"python": version},
    )
