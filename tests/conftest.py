"""What every test runs under: one thread, poisoned memory, the same examples each time."""

import gc
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from helpers import typecheck  # before ssmith is imported: see there

MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    # Thousands of files are written through to the disk here, and none is worth the wait.
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

settings.register_profile("house", deadline=None, max_examples=30, derandomize=True, database=None)
settings.load_profile("house")


LONG = (
    "docs/test_pages", "test_readme", "cli/test_kills", "jobs/test_groups", "spine/test_trained",
    "fuzz/test_fuzz", "recipes/test_networks", "families/test_hf_living_with", "watch/test_drift",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Begin with files in which one test takes long: it must not be the last one to begin."""
    items.sort(key=lambda item: not any(f"{name}.py" in item.nodeid for name in LONG))


def pytest_collection_finish():
    """Spare the collector what was imported: every measurement of a time begins with a collection.

    It has a million objects to walk through here, and half as many again that tests import, none
    of which ever goes: what a long collection leaves is set apart for good.
    """
    _seeded()
    gc.callbacks.append(_set_apart)
    gc.collect()
    gc.freeze()


@given(strategies.none())
def _seeded(_):
    """Let hypothesis know its own generator: it asks who refers to it, which is not seen later."""


def _set_apart(phase, found):
    if found["generation"] < 2:
        return
    if phase == "start":
        began[0] = time.process_time()
    elif time.process_time() - began[0] > 0.01:
        gc.freeze()


began = [0.0]
"""When the collection began that is under way."""


def pytest_runtest_setup():
    """Check the first calls of every function in each test, whatever ran before it."""
    typecheck.begin()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Spare the machine: tiny tensors gain nothing from threads."""
    import torch  # noqa: PLC0415 - not in the process that only hands out tests

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def poisoned_memory():
    """Fill uninitialised memory with NaN, so that reading it cannot go unnoticed."""
    import torch  # noqa: PLC0415

    # As `use_deterministic_algorithms`, which imports a compiler besides.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.set_deterministic_debug_mode("default")
