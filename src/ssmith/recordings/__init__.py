"""Recordings: what machines and people leave in files, made into rows that a model reads."""

from ssmith.recordings.new import NewRows, new_rows
from ssmith.recordings.prepare import Prepared, prepare, prepared_as
from ssmith.recordings.read import read, read_new
from ssmith.recordings.recording import Recordings

__all__ = [
    "NewRows",
    "Prepared",
    "Recordings",
    "new_rows",
    "prepare",
    "prepared_as",
    "read",
    "read_new",
]
