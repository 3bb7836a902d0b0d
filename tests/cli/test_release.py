"""``ssmith release``: what users type, what they get, and how it ends."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading

import pytest

from helpers.lines import Shelf, artefact, files_of, receipt, relaxed
from ssmith import api
from ssmith.release import lock
from ssmith.release.adding import keep
from ssmith.release.line import Line
from ssmith.release.promotion import promote
from ssmith.release.version import short

LOOSE = '[promote]\nmax_loss = "any"\nparity = false\n'


@pytest.fixture
def line(place, ssmith):
    """A line of two versions, the newer one live."""
    (place / "loose.toml").write_text(LOOSE)
    shelf = Shelf(place, relaxed(), clock=None)
    for text in ("one", "two"):
        promote(shelf.line, shelf.add(text, receipt(text)))
    return shelf.line


def test_a_model_from_beginning_to_end(place, ssmith):
    assert ssmith("release", "init", "line", "--name", "toys").code == 0
    added = ssmith("release", "add", "line", "model", "--reason", "trained in May", "--json")
    assert added.code == 0
    digest = added.document["version"]["digest"]
    assert added.document["lineage"]["whole"]
    # Nothing is live and it was made from nothing: only parity is asked, and is run at once.
    done = ssmith("release", "promote", "line", digest, "--reason", "the first", "--json")
    assert done.code == 0
    assert done.document["promoted"]
    assert {item["name"] for item in done.document["rules"]} == {"bytes", "max_loss", "parity"}
    actions = [item.action for item in Line.open("line").entries()]
    assert actions == ["init", "add", "note", "promote"]
    told = ssmith("release", "history", "line", "--json").document
    assert told["live"]["digest"] == digest
    assert told["line"] == "toys"
    assert told["entries"][-1]["reason"] == "the first"
    assert not told["entries"][-1]["signed"]
    assert ssmith("release", "verify", "line").code == 0
    assert api.verify("line/live")[0].passed
    text = ssmith("release", "history", "line").out
    assert "(unsigned)" in text
    assert "the first" in text


def test_a_refusal_names_the_rule_and_the_command_and_is_written_down(place, ssmith, line):
    (place / "strict.toml").write_text('[promote]\nmax_loss = "0.5 points"\nproof = true\n')
    assert ssmith("release", "policy", "line", "--set", "strict.toml").code == 0
    worse = Shelf.__new__(Shelf)
    worse.place, worse.line = place, line
    version = worse.add("worse", receipt("worse", loss=0.02))
    name = short(version.digest)
    looked = ssmith("release", "check", "line", name)
    assert looked.code == 1
    assert line.entries()[-1].action == "add"
    ended = ssmith("release", "promote", "line", name)
    assert ended.code == 1
    assert "2.00 points" in ended.out
    shown = Line.open("line")
    assert f"ssmith compare {shown.live.path} {shown.version(name).path} --data DATA" in ended.out
    assert f"ssmith release note line {name} --receipt" in ended.out
    assert line.entries()[-1].action == "refuse"
    over = ssmith("release", "promote", "line", name, "--override", "--reason", "x")
    assert over.code == 2
    assert "allows no override" in over.err
    assert line.live.name == "two"


def test_back_and_what_was_live_when(place, ssmith, line):
    first, second = line.versions()
    back = ssmith("release", "rollback", "line", "--reason", "alarms", "--json")
    assert back.code == 0
    assert back.document["version"] == first.digest
    assert back.document["before"] == second.digest
    at = line.entries()[-2].time
    found = ssmith("release", "history", "line", "--at", at, "--json").document
    assert found["live"] == second.digest
    assert found["since"]["action"] == "promote"
    assert ssmith("release", "history", "line", "--at", "2001-01-01T00:00Z").code == 0
    nothing = ssmith("release", "history", "line", "--at", "2001-01-01T00:00Z", "--json")
    assert nothing.document["live"] is None
    assert ssmith("release", "history", "line", "--at", "2001-01-01").code == 2
    again = ssmith("release", "rollback", "line")
    assert again.code == 2
    assert "nothing to go back to" in again.err
    assert ssmith("release", "rollback", "line", short(second.digest)).code == 0


def test_the_head_is_printed_and_expected(place, ssmith, line):
    head = ssmith("release", "log", "line", "--head").out.strip()
    assert head == line.head
    assert ssmith("release", "log", "line").out.encode() == (line.path / "log.jsonl").read_bytes()
    assert ssmith("release", "verify", "line", "--expect", head).code == 0
    lines = (line.path / "log.jsonl").read_bytes().splitlines(keepends=True)
    (line.path / "log.jsonl").write_bytes(b"".join(lines[:-1]))
    (line.path / "live").unlink()
    (line.path / "live").symlink_to(f"versions/{line.versions()[0].path.name}")
    assert ssmith("release", "verify", "line").code == 0
    ended = ssmith("release", "verify", "line", "--expect", head, "--json")
    assert ended.code == 1
    assert "cut off" in ended.document["faults"][0]["text"]


def test_damage_is_one_line_and_is_named_by_verify(place, ssmith, line):
    path = line.path / "log.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"two"', 1))
    for words in (("history",), ("rollback",), ("promote", "abcd"), ("log",), ("policy",)):
        ended = ssmith("release", words[0], "line", *words[1:])
        assert ended.code == 2, words
        assert ended.err.count("\n") == 1
        assert "entry 1" in ended.err
    ended = ssmith("release", "verify", "line", "--json")
    assert ended.code == 1
    assert ended.document["faults"][0]["where"] == "log.jsonl, entry 1"


def test_what_stands_beside_the_log_is_checked_and_not_needed(place, ssmith, line):
    (line.path / "line.json").write_text("{")
    assert ssmith("release", "history", "line").code == 0
    ended = ssmith("release", "verify", "line")
    assert ended.code == 1
    assert "wrong: line.json: is not what the log says" in ended.out
    (line.path / "log.jsonl").rename(line.path / "elsewhere")
    ended = ssmith("release", "history", "line")
    assert ended.code == 2
    assert "log.jsonl is missing" in ended.err


def test_a_version_whose_base_is_missing_does_not_go_live(place, ssmith, line):
    base = artefact(place / "shelf" / "base", "base")
    tuned = artefact(place / "shelf" / "tuned", "tuned", base=base, parent="base")
    version = keep(line, tuned)
    shutil.rmtree(line.version(version.base).path)
    ended = ssmith("release", "promote", "line", short(version.digest))
    assert ended.code == 1
    assert "missing" in ended.out
    assert line.live.name == "two"
    (line.path / "manifests" / f"{version.base.removeprefix('sha256:')}.json").unlink()
    for words in (("promote", "line", short(version.digest)), ("export", "line", "newest")):
        more = ("--out", "out") if words[0] == "export" else ()
        ended = ssmith("release", *words, *more)
        assert ended.code == 2
        assert ended.err.count("\n") == 1
    assert not (place / "out").exists()


def test_export_and_keys(place, ssmith, line):
    assert ssmith("release", "export", "line", "live", "--out", "out.tar").code == 0
    with tarfile.open("out.tar") as archive:
        assert "out/model/config.json" in archive.getnames()
    made = ssmith("release", "key", "--out", "own.key", "--json")
    assert made.code == 0
    called = made.document["key"]
    (place / "signed.toml").write_text(
        LOOSE + f'override = true\nsigners = {{ at_least = 1, keys = ["{called}"] }}\n'
    )
    assert ssmith("release", "policy", "line", "--set", "signed.toml").code == 0
    first = short(line.versions()[0].digest)
    assert ssmith("release", "promote", "line", first).code == 1
    over = ssmith("release", "promote", "line", first, "--override", "--reason", "now")
    assert over.code == 1
    assert "an override never stands for signers: settle that as said above" in over.out
    assert "signers would be settled by: ssmith release sign line" in over.out
    signed = ssmith("release", "sign", "line", first, "--key", "own.key")
    assert signed.code == 0
    assert "signatures: 1, asked: 1" in signed.out
    assert ssmith("release", "promote", "line", first).code == 0
    assert ssmith("release", "verify", "line").code == 0
    # The policy that was printed is the one that is read.
    shown = ssmith("release", "policy", "line").out
    (place / "again.toml").write_text(shown)
    ended = ssmith("release", "policy", "line", "--set", "again.toml")
    assert ended.code == 2
    assert "is the policy there is" in ended.err


def test_another_writer_ends_with_its_own_code(place, ssmith, line):
    held, free = threading.Event(), threading.Event()

    def hold():
        with lock.writing(line.path, wait=1, who="add by somebody"):
            held.set()
            free.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    before = files_of(line.path)
    ended = ssmith("release", "rollback", "line", "--wait", "0.05", "--json")
    assert ended.code == 75
    assert "add by somebody" in ended.err
    assert ended.document["error"]["kind"] == "BusyError"
    assert files_of(line.path) == before
    free.set()
    holder.join()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "line", "nowhere"), "no model at 'nowhere'"),
        (("add", "nowhere", "model"), "no line at nowhere"),
        (("add", "line", "model", "--receipt", "data.npz"), "data.npz"),
        (("add", "line", "model", "--receipt", "other.json"), "does not speak of this version"),
        (("promote", "line", "0000"), "no version begins"),
        (("promote", "line"), "VERSION is missing"),
        (("note", "line", "live"), "nothing to note"),
        (("rollback", "line", "--wait", "nan"), "a wait of nan seconds"),
        (("init", "line"), "holds a line already"),
        (("init", "model"), "is not empty"),
        (("init", "new", "--policy", "wrong.toml"), "did you mean 'max_loss'"),
        (("sign", "line", "live"), "--key is missing"),
        (("policy", "line", "--reason", "x"), "without --set"),
        (("export", "line", "live", "--out", "line/out"), "is in the line"),
        (("promot", "line"), "promote"),
        ((), "COMMAND"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(place, ssmith, line, words, said):
    (place / "wrong.toml").write_text("[promote]\nmax_los = '1%'\n")
    (place / "other.json").write_text(json.dumps(receipt("other")))
    before = files_of(line.path)
    ended = ssmith("release", *words)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    assert files_of(line.path) == before
    assert not (place / "new").exists()


def test_what_needs_no_model_needs_no_torch(place, line):
    environment = {**os.environ, "COLUMNS": "200"}
    code = (
        "import json, sys; from ssmith.cli.main import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    assert main(words) == 0, words\n"
        "    assert 'torch' not in sys.modules, f'torch was imported: {words}'\n"
    )
    first = short(line.versions()[0].digest)
    commands = [
        ["release", name, "new" if name == "init" else "line", *more]
        for name, *more in (
        ("history",), ("history", "--at", "2031-01-01T00:00Z"), ("verify",), ("log",), ("policy",),
        ("check", first), ("rollback",), ("note", first, "--reason", "x"),
        ("export", first, "--out", "out"), ("init",),
        )
    ]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        check=False, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
