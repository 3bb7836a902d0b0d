"""Recordings: what machines and people leave in files, made into rows that a model reads."""

from ssmith.recordings.new import NewRows, new_rows
from ssmith.recordings.parts import RowParts, parts_of_rows
from ssmith.recordings.prepare import Prepared, prepare, prepared_as
from ssmith.recordings.read import read, read_new
from ssmith.recordings.recording import Recordings

__all__ = [
    "NewRows",
    "Prepared",
    "Recordings",
    "RowParts",
    "new_rows",
    "parts_of_rows",
    "prepare",
    "prepared_as",
    "read",
    "read_new",
]
