"""Data: named sets and the user's files, in four splits, and batches of them."""

from ssmith.data.batching import batches
from ssmith.data.digest import digest_of
from ssmith.data.embedded import TASKS, about
from ssmith.data.fits import check_fits
from ssmith.data.load import load_data
from ssmith.data.npz import save_npz

__all__ = ["TASKS", "about", "batches", "check_fits", "digest_of", "load_data", "save_npz"]
