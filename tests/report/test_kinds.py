"""Every kind of receipt has a page of its own, on which nothing stands that it cannot hold."""

import ast
import re
from html import unescape
from pathlib import Path

import pytest

import ssmith
from helpers.receipts import changed
from ssmith.core.errors import ArtefactError
from ssmith.report import write_report
from ssmith.report.kinds import ALL, KINDS, kind_of
from ssmith.trials.live import MODES

SOURCE = Path(ssmith.__file__).parent


def actions():
    """Every action that a receipt is made with, anywhere in the package."""
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            item.targets[0].id: item.value.value
            for item in tree.body
            if isinstance(item, ast.Assign)
            and isinstance(item.targets[0], ast.Name)
            and isinstance(item.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Receipt":
                given = next(item.value for item in node.keywords if item.arg == "action")
                if isinstance(given, ast.Constant):
                    yield given.value
                elif isinstance(given, ast.Name):
                    yield constants[given.id]
                else:
                    assert ast.unparse(given) == "config.mode"
                    yield from MODES


def words_on(page):
    content = page.read_text(encoding="utf-8")
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", content, flags=re.DOTALL)
    return " ".join(unescape(text).split())


def test_no_kind_is_forgotten(made):
    assert set(actions()) == set(KINDS) == set(made)
    assert {name for kind in KINDS.values() for name in kind.sections} == set(ALL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_says_only_what_its_kind_can(made, tmp_path, kind):
    receipt = made[kind]
    said = words_on(write_report(receipt, tmp_path))
    assert KINDS[kind].standing.badge in said or receipt.verdict or kind == "canary"
    head = said[: said.index("Findings")]
    # A pilot names what it did not measure; others leave it out.
    assert "ot measured" not in head.replace("Cut, and not measured", "") or kind == "pilot", head
    assert ("What was seen" in said) == ("seen" in KINDS[kind].sections)
    assert ("Saving" in said) == (kind == "pilot")


def test_pages_show_the_numbers_of_their_receipts(made, tmp_path):
    pages = {kind: words_on(write_report(made[kind], tmp_path / kind)) for kind in made}
    whole = made["audit"].as_dict()["details"]["whole"]
    assert f"{100 * whole['changed']['value']:.1f} %" in pages["audit"]
    assert all(
        f"By {name}" in pages["audit"] for name in made["audit"].as_dict()["details"]["groups"]
    )
    assert f"Rows {whole['rows']}" in pages["audit"]
    assert "Passed" in pages["canary"]
    assert "Requests 6" in pages["canary"]
    assert f"Rows {whole['rows']}" in pages["audit"]
    assert "Tensors written 2" in pages["merge"]
    assert f"Decision {made['shadow'].details.decision}" in pages["shadow"]
    assert "What was learned" in pages["tune"]


def test_a_leak_is_the_verdict_of_a_canary(made, tmp_path):
    leaking = {
        **made["canary"].as_dict()["details"],
        "passed": False,
        "leaks": [{"text": "3 leaked into 4"}],
    }
    said = words_on(write_report(changed(made["canary"], details=leaking), tmp_path))
    assert "Leak" in said
    assert "3 leaked into 4" in said
    assert "Passed" not in said


def test_an_unknown_kind_shows_every_section_that_receipts_share(accepted):
    unknown = changed(accepted, action="another")
    assert set(kind_of(unknown).sections) == set(ALL) - {"seen"}


@pytest.mark.parametrize(
    ("kind", "key", "value", "said"),
    [
        ("audit", "groups", {"class": 2.5}, "details.groups.class is 2.5"),
        ("audit", "groups", {"class": [{"rows": 3}]}, "details.groups.class[0] lacks name"),
        ("audit", "moves", 3, "details.moves is 3"),
        ("canary", "requests", "all", "details.requests is 'all'"),
        ("shadow", "interval", [1, 2], "details.interval is [1, 2]"),
    ],
)
def test_what_a_kind_alone_shows_is_of_its_type(made, kind, key, value, said):
    details = {**made[kind].as_dict()["details"], key: value}
    with pytest.raises(ArtefactError, match=re.escape(said)):
        changed(made[kind], details=details)
