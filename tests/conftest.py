"""What every test runs under: one thread, poisoned memory, the same examples each time."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from helpers import typecheck  # before ssmith is imported: see there

MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    # Thousands of files are written through to the disk here, and none is worth the wait.
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

settings.register_profile("house", deadline=None, max_examples=30, derandomize=True, database=None)
settings.load_profile("house")


def pytest_collection_modifyitems(items):
    """Begin with whole pages of documentation: what takes minutes must not come last."""
    items.sort(key=lambda item: "page" not in item.name and "readme" not in item.name)


def pytest_collection_finish():
    """Spare the collector what was imported: every measurement of a time begins with a collection.

    It has a million objects to walk through here, none of which ever goes.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_setup():
    """Check the first calls of every function in each test, whatever ran before it."""
    typecheck.begin()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Spare the machine: tiny tensors gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def poisoned_memory():
    """Fill uninitialised memory with NaN, so that reading it cannot go unnoticed."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
