import json
import shlex
import signal
from pathlib import Path

import pytest

from helpers.dying import dies_entering, ended, start
from helpers.lines import kept
from ssmith.release.line import Line


def make_line(ssmith, policy=""):
    Path("policy.toml").write_text(policy)
    assert ssmith("release", "init", "line", "--policy", "policy.toml").code == 0
    assert ssmith("release", "add", "line", "new", "--reason", "a try").code == 0
    return Line.open("line")


def test_an_audit_is_written_into_the_line_of_its_version(place, ssmith):
    make_line(ssmith)
    ended = ssmith("audit", "old", "new", "--data", "data.npz", "--line", "line")
    assert ended.code == 0, ended.err
    line = Line.open("line")
    entry = line.entries()[-1]
    assert (entry.action, entry.version) == ("audit", line.versions()[0].digest)
    assert entry.details["rows"] == 12
    assert entry.details["flips"] <= entry.details["flips_upper"]
    assert {item["slice"] for item in entry.details["slices"]["class"]} == {"a", "b", "c"}
    assert kept(line, entry.receipts[0])["action"] == "audit"
    refused = ssmith("audit", "new", "old", "--data", "data.npz", "--line", "line")
    assert refused.code == 2
    assert "old is no version of line" in refused.err
    assert len(Line.open("line").entries()) == 3


def test_a_canary_settles_what_the_policy_asks_for(place, ssmith):
    policy = '[promote]\nmax_loss = "any"\nparity = false\nverdict_age_days = "any"\n'
    policy += "canary = { requests = 12 }\n"
    line = make_line(ssmith, policy)
    digest = line.versions()[0].digest
    refused = ssmith("release", "promote", "line", digest, "--reason", "now", "--json")
    assert refused.code == 1
    settle = [item["settle"] for item in refused.document["rules"] if item["name"] == "canary"]
    # The command that the refusal names settles it.
    words = settle[0].split()
    assert words[:2] == ["ssmith", "canary"]
    assert ssmith(*words[1:]).code == 0
    entry = Line.open("line").entries()[-1]
    assert (entry.action, entry.details["passed"]) == ("canary", True)
    assert ssmith("release", "promote", "line", digest, "--reason", "now").code == 0
    assert json.loads(json.dumps(dict(entry.details)))["requests"] == 12


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize(
    "command", ["canary new --requests 6 --longest 4", "audit old new --data data.npz"]
)
def test_killed_as_it_is_entered_it_stands_in_the_line_once(
    place, ssmith, monkeypatch, command, when
):
    make_line(ssmith)
    words = [*shlex.split(command), "--line", "line", "--out", "out"]
    with monkeypatch.context() as patched:
        dies_entering(patched, when)
        assert ended(start(words, place, place / "said.txt")) == -signal.SIGKILL
    assert (place / "out" / "receipt.json").is_file()
    there = len(Line.open("line").entries())
    assert there == (3 if when == "behind" else 2)
    if when == "before":
        assert ssmith(*words, "--overwrite").code == 0
    (entry,) = Line.open("line").entries()[2:]
    written = json.loads((place / "out" / "receipt.json").read_text())
    assert kept(Line.open("line"), entry.receipts[0]) == written
