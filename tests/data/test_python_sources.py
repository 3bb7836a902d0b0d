"""Sources of packages and of the standard library: what is taken, and what is kept apart."""

import sys
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmith.core.errors import InputError
from ssmith.data import python_sources
from ssmith.data.documents import Document, Documents
from ssmith.data.overlap import overlap_with
from ssmith.data.python_sources import fair_shares, read_packages, read_stdlib

RICH = {"rich": metadata.version("rich")}


def lines(*numbers):
    return "\n".join(f"line_{number} = {number}" for number in numbers).encode()


def documents(**contents):
    items = tuple(Document(name=name, content=text) for name, text in contents.items())
    return Documents(name="some", source="here", items=items)


@pytest.fixture(scope="module")
def stdlib():
    return read_stdlib()


def test_the_standard_library_is_there_without_its_tests(stdlib):
    names = [item.name for item in stdlib.items]
    assert names == sorted(names)
    assert {"argparse.py", "json/decoder.py", "asyncio/events.py"} <= set(names)
    assert not any("test" in name.split("/") or "site-packages" in name for name in names)
    assert stdlib.details["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_package_is_read_up_to_its_share_from_all_over():
    whole = read_packages(RICH, size=100_000_000)
    part = read_packages(RICH, size=200_000)
    assert 100_000 < part.size <= 200_000
    assert {item.name for item in part.items} < {item.name for item in whole.items}
    places = [[item.name for item in whole.items].index(item.name) for item in part.items]
    thirds = {3 * place // len(whole.items) for place in places}
    assert thirds == {0, 1, 2}
    facts = whole.details["packages"]["rich"]
    assert facts["version"] == RICH["rich"]
    assert facts["bytes"] == whole.size
    assert whole.sha256 == read_packages(RICH, size=100_000_000).sha256 != part.sha256


def test_what_is_measured_on_is_not_learned_from():
    whole = read_packages(RICH, size=100_000_000)
    copied = whole.items[10]
    avoid = documents(copy=b"# another head\n" + copied.content)
    found = read_packages(RICH, size=100_000_000, avoid=avoid)
    assert {item.name for item in whole.items} - {item.name for item in found.items} == {
        copied.name
    }
    assert found.details["files_left_out"]["shared with what is avoided"] == 1


def test_overlap_is_the_share_of_runs_of_lines():
    judge = overlap_with([Document(name="a", content=lines(*range(20)))])
    assert judge.share(Document(name="b", content=lines(*range(20)))) == 1
    assert judge.share(Document(name="c", content=lines(*range(50, 70)))) == 0
    half = Document(name="d", content=lines(*range(10), *range(50, 64)))
    # Of the 20 runs of five lines only the first six lie wholly in the first ten lines.
    assert judge.share(half) == pytest.approx(6 / 20)
    assert judge.share(Document(name="e", content=b"short")) == 0


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 1000), min_size=1), st.integers(0, 5000))
def test_shares_are_equal_but_for_those_that_have_less(sizes, total):
    shares = fair_shares(sizes, total)
    assert sum(shares.values()) == min(total, sum(sizes.values()))
    limited = [shares[name] for name in sizes if shares[name] < sizes[name]]
    assert max(limited, default=0) - min(limited, default=0) <= 1
    assert all(shares[name] <= size for name, size in sizes.items())
    assert all(share <= max(limited, default=share) for share in shares.values() if limited)


def test_another_version_or_none_is_refused():
    with pytest.raises(InputError, match=r"package 'rich' has version .*allowed: 0\.1"):
        read_packages({"rich": "0.1"}, size=1000)
    with pytest.raises(InputError, match=r"'no-such-package' is not installed.*pip install"):
        read_packages({"no-such-package": "1.0"}, size=1000)
    with pytest.raises(InputError, match=r"0 packages"):
        read_packages({}, size=1000)


def test_sources_no_tokenizer_could_read_are_left_out(tmp_path):
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\n# ä".encode("latin-1"))
    (tmp_path / "nul.py").write_bytes(b"a\0b")
    (tmp_path / "empty.py").write_bytes(b"\n")
    (tmp_path / "dos.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    files = [(item.name, item) for item in sorted(tmp_path.iterdir())]
    (found,) = python_sources._readable(files)
    assert (found.name, found.content) == ("dos.py", b"a = 1\nb = 2\n")
