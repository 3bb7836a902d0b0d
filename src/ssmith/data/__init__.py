"""Data: named sets, text and the user's files, in four splits, and batches of them."""

from ssmith.data.batching import batches
from ssmith.data.digest import digest_of
from ssmith.data.embedded import TASKS, about
from ssmith.data.examples import ExamplesConfig, load_examples
from ssmith.data.fits import check_fits
from ssmith.data.kinds import is_series, keys_of
from ssmith.data.load import load_data
from ssmith.data.load_text import PROSE_SPEC, STDLIB_SPEC, load_text, read_source
from ssmith.data.npz import save_npz
from ssmith.data.python_sources import read_packages
from ssmith.data.recall import RECALL_TASKS, recall_rows, recall_texts
from ssmith.data.streams import stream_of
from ssmith.data.tokenizers import ByteTokenizer, find_tokenizer
from ssmith.data.whole import load_whole

__all__ = [
    "PROSE_SPEC",
    "RECALL_TASKS",
    "STDLIB_SPEC",
    "TASKS",
    "ByteTokenizer",
    "ExamplesConfig",
    "about",
    "batches",
    "check_fits",
    "digest_of",
    "find_tokenizer",
    "is_series",
    "keys_of",
    "load_data",
    "load_examples",
    "load_text",
    "load_whole",
    "read_packages",
    "read_source",
    "recall_rows",
    "recall_texts",
    "save_npz",
    "stream_of",
]
