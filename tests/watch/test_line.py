"""The command: what it finds, writes down, exports and refuses."""

import json
import shlex
import shutil
import signal

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from helpers import dying
from helpers.command import ended
from helpers.lines import kept
from ssmith import api
from ssmith.cli.main import main
from ssmith.release.line import Line
from ssmith.watch.findings import Commands
from ssmith.watch.profile import Profile


def test_rows_of_the_same_kind_are_left_alone_and_written_down(watch, cut):
    ended = watch("--data", "same.npz", "--json")
    assert ended.code == 0
    found = ended.document
    assert not found["alarm"] and found["rows"] == found["there"] == 150
    assert not [item for item in found["drifts"] if item["alarm"]]
    entry = Line.open("line").entries()[-1]
    assert (entry.action, entry.version) == ("watch", cut)
    assert kept(Line.open("line"), entry.receipts[0]) == found


def test_changed_rows_raise_an_alarm_of_the_cut_in_points_with_what_to_do(watch, place):
    ended = watch("--data", "changed.npz", "--json")
    assert ended.code == 1
    found = ended.document
    kinds = {item["kind"] for item in found["findings"] if item["alarm"]}
    assert {"cut", "input"} <= kinds
    cut = next(item for item in found["findings"] if item["kind"] == "cut")
    assert cut["size"]["low"] <= cut["size"]["value"] <= cut["size"]["high"]
    assert cut["size"]["unit"] == "points"
    assert any("ssmith prune" in command and "--cut state=0.5" in command for command in cut["do"])
    sites = found["cut"]["sites"]
    assert set(sites) == {"blocks.0.ssm", "blocks.1.ssm"}
    for site in sites.values():
        assert 0 < site["removed_at_release"] < 1 and 0 <= site["refit"] <= 1.0001
    entry = Line.open("line").entries()[-1]
    assert entry.action == "alarm" and "cut" in entry.details["alarms"]


def test_no_row_is_kept(watch, place):
    values = np.load("changed.npz")["x"].astype(np.float32)
    watch("--data", "changed.npz")
    row = values[3].tobytes()
    for path in (place / "line").rglob("*"):
        if path.is_file():
            assert row[:32] not in path.read_bytes()


def test_labels_hold_the_metric_against_its_promise(watch):
    same = watch("--data", "same-labelled.npz", "--labels", "--json").document
    assert same["quality"]["decision"] == "open" and not same["alarm"]
    changed = watch("--data", "changed-labelled.npz", "--labels", "--json").document
    assert changed["quality"]["decision"] == "worse"
    assert changed["findings"][0]["kind"] == "quality"
    assert changed["quality"]["now"] < changed["quality"]["promised"]
    assert changed["quality"]["rows"] == 300


def test_looks_add_up_and_a_profile_begins_anew(watch):
    for number in (1, 2):
        assert watch("--data", "same.npz", "--json").document["number"] == number
    assert watch("--take", "--data", "data.npz", "--quiet", "--sample", "100").code == 0
    assert watch("--data", "same.npz", "--json").document["number"] == 1


@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_look_that_is_killed_as_it_is_entered_counts_once(watch, place, monkeypatch, when):
    words = ["watch", "line", "--data", "same.npz", "--prometheus", "watch.prom"]
    before = len(Line.open("line").entries())
    with monkeypatch.context() as patched:
        dying.dies_entering(patched, when)
        child = dying.start(words, place, place / "said.txt")
        assert dying.ended(child) == -signal.SIGKILL
    assert "ssmith_watch_looks" in (place / "watch.prom").read_text()
    spent = len(Line.open("line").entries()) - before
    assert spent == (when == "behind")
    assert watch("--data", "same.npz", "--json").document["number"] == spent + 1


def test_the_official_parser_reads_the_metrics(watch, place):
    watch("--data", "changed.npz", "--prometheus", "watch.prom")
    families = {
        item.name: item.samples
        for item in text_string_to_metric_families((place / "watch.prom").read_text())
    }
    alarms = {item.labels["kind"]: item.value for item in families["ssmith_watch_alarm"]}
    assert alarms["cut"] == 1 and alarms["quality"] == 0
    assert families["ssmith_watch_rows"][0].value == 150
    assert families["ssmith_watch_rows"][0].labels["line"] == "waves"
    assert {item.labels["site"] for item in families["ssmith_watch_cut_cost_ratio"]} == {
        "blocks.0.ssm", "blocks.1.ssm",
    }  # fmt: skip


def test_it_looks_again_and_again_and_survives_a_look_that_fails(watch, place, monkeypatch):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        name = {2: "gone.npz", 3: "changed.npz"}.get(len(waits), "same.npz")
        (place / "now.npz").unlink(missing_ok=True)
        if (place / name).exists():
            shutil.copy(place / name, place / "now.npz")

    monkeypatch.setattr("ssmith.cli.watch.time.sleep", wait)
    ended = watch("--data", "now.npz", "--every", "10m", "--looks", "3", "--json")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line.get("alarm") for line in lines] == [False, None, True]
    assert "there is no file or directory now.npz" in lines[1]["error"]["message"]
    assert ended.err.count("this look failed") == 1
    assert ended.code == 1
    assert lines[2]["settings"]["looks_per_year"] == 52560
    assert waits[0] == 0 and 500 < waits[1] <= 600


def test_without_a_terminal_only_alarms_are_told(watch, monkeypatch):
    monkeypatch.setattr("ssmith.cli.watch.time.sleep", lambda seconds: None)
    assert watch("--data", "same.npz", "--every", "1s", "--looks", "2").out == ""
    assert "ALARM" in watch("--data", "changed.npz", "--every", "1s", "--looks", "1").out


def wrong(place):
    np.savez(place / "wide.npz", x=np.zeros((4, 12, 3)))
    np.savez(place / "tokens.npz", x=np.zeros((4, 12), dtype=int), vocabulary=np.array(5))
    np.savez(place / "holes.npz", x=np.full((4, 12, 2), np.nan))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "wide.npz"], "wide has 3 channels"),
        (["--data", "tokens.npz"], "tokens holds tokens"),
        (["--data", "holes.npz"], "not finite"),
        (["--data", "none.npz"], "there is no file or directory none.npz"),
        (["--data", "same.npz", "--labels"], "arrays x"),
        (["--data", "same.npz", "--every", "soon"], "'soon' is no time"),
        (["--data", "same.npz", "--sample", "0"], "sample is 0"),
        (["--data", "same.npz", "--parent", "small"], "is not what the version was cut from"),
        (["--data", "same.npz", "--metric", "rmse"], "--metric without --take"),
        (["--data", "same.npz", "--version", "beef"], "no version begins with 'beef'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(watch, place, words, says):
    wrong(place)
    before = Line.open("line").head
    ended = watch(*words)
    assert ended.code == 2 and ended.out == ""
    assert says in ended.err and ended.err.count("\n") == 1
    assert Line.open("line").head == before


def test_a_version_without_a_profile_says_how_to_take_it(watch):
    dense = Line.open("line").versions()[0].digest
    ended = watch("--data", "same.npz", version=dense)
    assert ended.code == 2 and "has no profile" in ended.err and "--take" in ended.err


def test_a_version_that_was_not_cut_is_watched_without_the_cut(watch):
    dense = Line.open("line").versions()[0].digest
    taken = watch("--take", "--data", "data.npz", version=dense)
    assert taken.code == 0 and "not watched: cut: the version was not cut" in taken.out
    found = watch("--data", "changed.npz", "--json", version=dense).document
    assert found["cut"] is None and found["alarm"]
    assert found["left"] == {"cut": "the version was not cut"}
    assert not any("the cut" in item["what"] for item in found["findings"])
    assert {item["kind"] for item in found["findings"]} <= {"input", "output"}


def test_a_damaged_profile_and_a_damaged_stream_are_named(watch, place):
    watch("--data", "same.npz")
    stream = next((place / "line" / "watch").rglob("stream.safetensors"))
    whole = stream.read_bytes()
    for damage in (b"no", whole[:-1] + bytes([whole[-1] ^ 1])):
        stream.write_bytes(damage)
        assert "delete it" in watch("--data", "same.npz").err
    stream.unlink()
    profile = next((place / "line" / "profiles").rglob("profile.safetensors"))
    profile.chmod(0o644)
    profile.write_bytes(profile.read_bytes()[:-1] + b"!")
    assert "was changed" in watch("--data", "same.npz").err


def test_without_a_live_version_the_newest_is_watched(place, watch, cut, capsys):
    assert main(["watch", "line", "--data", "same.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == cut


def test_a_profile_is_taken_as_a_version_is_added(place, capsys):
    assert main(["release", "init", "other", "--quiet"]) == 0
    words = ["release", "add", "other", "small", "--data", "data.npz", "--parent", "dense"]
    assert main(words) == 0
    assert "profile: 150 rows" in capsys.readouterr().out
    assert main(["watch", "other", "--data", "same.npz", "--parent", "dense", "--quiet"]) == 0


def test_a_line_that_was_watched_verifies(watch, place):
    watch("--data", "same.npz")
    watch("--data", "changed.npz")
    assert main(["release", "verify", "line", "--quiet"]) == 0


@pytest.mark.parametrize("labelled", [False, True])
def test_what_is_to_be_done_is_a_command_that_runs(watch, place, capsys, labelled):
    rows = "changed-labelled.npz" if labelled else "changed.npz"
    found = watch("--data", rows, *(["--labels"] if labelled else []), "--json").document
    commands = {line for item in found["findings"] for line in item["do"]}
    verbs = {shlex.split(line)[1] for line in commands}
    assert verbs == ({"prune", "tune"} if labelled else {"prune"})
    for line in sorted(commands):
        assert ended(capsys, *shlex.split(line)[1:], "--quiet").code == 0, line
    assert api.load("recalibrated") is not None


def test_new_rows_without_labels_may_become_the_new_normal(watch, place, capsys, cut):
    shifted = np.load("same.npz")["x"] + 3.0
    np.savez("moved.npz", x=shifted)
    can = Commands(line="line", version=cut[7:19], data="moved.npz")
    assert ended(capsys, *shlex.split(can.profile)[1:]).code == 0
    profile = Profile.load(Line.open("line").version(cut).profile)
    assert profile.curve is None and profile.promise.metric is None
    assert watch("--data", "moved.npz").code == 0
