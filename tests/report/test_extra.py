"""Without the extra the error names it, and nothing is written."""

import subprocess
import sys

import pytest

from ssmith.core.errors import MissingExtraError
from ssmith.report import write_index, write_report


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_package_names_the_extra(monkeypatch, accepted, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*ssmith\[report\]"):
        write_report(accepted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_list_of_pilots_needs_jinja_only(monkeypatch, accepted, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_index([("one", tmp_path, accepted)], tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"ssmith\[report\]"):
        write_index([("one", tmp_path, accepted)], tmp_path)


def test_importing_the_room_imports_no_extra():
    code = (
        "import sys, ssmith.report; "
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'jinja2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
