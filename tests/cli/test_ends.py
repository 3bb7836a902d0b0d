"""How a command line ends: interrupted, surprised, without a reader, in a process of its own."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.conftest import listing
from ssmith import api
from ssmith.cli.main import main
from ssmith.cli.output import Output
from ssmith.release.begin import init

PYTHON = (sys.executable, "-m", "ssmith")
PILOT = (
    "pilot", "model", "--data", "data.npz", "--out", "pilot", "--at", "0.3", "--method", "last",
)  # fmt: skip


def begun(tmp_path):
    """A line: what reads one starts at once, without torch."""
    return init(tmp_path / "line").path


def interrupt(*more, **settings):
    raise KeyboardInterrupt


def surprise(*more, **settings):
    raise RuntimeError("seven\nlines")


def test_interrupted_with_nothing_kept(place, ssmith, monkeypatch):
    monkeypatch.setattr("ssmith.surgery.apply.model_digest", interrupt)
    before = listing(place)
    ended = ssmith("prune", "model", "--cut", "state=0.5", "--out", "small")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "error: interrupted; nothing was written.\n"
    assert listing(place) == before


def test_interrupted_while_saving(place, ssmith, monkeypatch):
    monkeypatch.setattr(sys.modules["ssmith.artefact.save"], "card", interrupt)
    before = listing(place)
    ended = ssmith("prune", "model", "--cut", "state=0.5", "--out", "small", "--json")
    assert ended.code == 130
    assert ended.document["error"]["kind"] == "KeyboardInterrupt"
    assert listing(place) == before


def test_interrupted_pilot_goes_on(place, ssmith, monkeypatch):
    words = (*PILOT, "--max-loss", "0.99", "--speed-seconds", "0.01")
    with monkeypatch.context() as patch:
        patch.setattr("ssmith.jobs.pilot.run.measure_costs", interrupt)
        ended = ssmith(*words)
    assert ended.code == 130
    assert ended.err == (
        "error: interrupted; finished stages are kept in pilot; go on with --resume.\n"
    )
    assert not (place / "pilot" / "receipt.json").exists()
    assert ssmith(*words, "--resume").code == 0


def test_interrupted_pilot_before_its_first_stage(place, ssmith, monkeypatch):
    monkeypatch.setattr("ssmith.jobs.merge.model_digest", interrupt)
    ended = ssmith(*PILOT)
    assert ended.err == "error: interrupted; nothing was written.\n"
    assert not (place / "pilot").exists()


def test_a_bug_is_called_a_bug(place, ssmith, monkeypatch):
    monkeypatch.setattr(api, "inspect", surprise)
    ended = ssmith("inspect", "model")
    assert ended.code == 70
    assert ended.err.count("\n") == 1
    assert "unexpected RuntimeError: seven lines; this is a bug in ssmith" in ended.err
    assert "--debug" in ended.err
    found = ssmith("inspect", "model", "--json", "--debug")
    assert found.code == 70
    assert found.document["error"]["kind"] == "RuntimeError"
    assert "Traceback" in found.err


def test_debug_shows_the_traceback_of_a_mistake(place, ssmith):
    ended = ssmith("inspect", "./nowhere", "--debug")
    assert ended.code == 2
    assert ended.err.startswith("Traceback")
    assert ended.err.splitlines()[-1].startswith("error: ")


def test_version_and_help(ssmith):
    version = ssmith("--version")
    assert (version.code, version.out.split()[0]) == (0, "ssmith")
    found = ssmith("--version", "--verbose")
    assert found.code == 0
    assert "selective_scan runs on " in found.out
    assert ssmith("--verbose", "list").code == 2
    ended = ssmith("--help")
    assert ended.code == 0
    assert "exit codes:" in ended.out


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("as_json", "quiet", "terminal", "drawn"),
    [
        (False, False, True, True),
        (False, False, False, False),
        (True, False, True, False),
        (False, True, True, False),
    ],
)
def test_progress_is_drawn_for_a_terminal_only(monkeypatch, as_json, quiet, terminal, drawn):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    with Output(as_json=as_json, quiet=quiet).progress() as progress:
        progress("sweep", 1, 3, "[LAST]")
        progress("sweep", 3, 3)
        progress("speed", 1, 1)
    text = stream.getvalue()
    assert ("sweep" in text and "3/3" in text and "speed" in text) is drawn
    assert drawn or text == ""


def test_a_table_in_a_pipe_is_not_cut(capsys):
    long = "x" * 150
    Output(as_json=False, quiet=False).table(("name", "count"), [(long, 12345), ("[b]", 1)])
    text = capsys.readouterr().out
    assert long in text
    assert "12,345" in text
    assert "[b]" in text


def test_help_needs_no_torch():
    code = (
        "import sys\nfrom ssmith.cli.main import main\nmain(['--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'rich')))"
    )
    ended = subprocess.run((sys.executable, "-c", code), check=False, stdout=subprocess.DEVNULL)
    assert ended.returncode == 0


def test_as_a_process(place):
    ended = subprocess.run(
        (*PYTHON, "prune", "model", "--cut", "state=0.5", "--out", "small", "--json"),
        capture_output=True,
        check=False,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("{")
    assert (place / "small" / "receipt.json").is_file()
    refused = subprocess.run(
        (*PYTHON, "release", "log", "model"), capture_output=True, check=False, text=True
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_reader_that_goes_away(tmp_path, more):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        (*PYTHON, "release", "log", begun(tmp_path), *more),
        stdout=writer, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_behind_stdout(tmp_path):
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            (*PYTHON, "release", "log", begun(tmp_path)),
            stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert ended.returncode == 2
    assert b"No space left on device" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_control_c_on_a_process(place):
    # A shell that runs the tests in the background ignores interrupts, and children inherit that.
    process = subprocess.Popen(
        (*PYTHON, *PILOT, "--speed-seconds", "600"), stderr=subprocess.PIPE, cwd=place,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    end = time.monotonic() + 240
    # The last stage before the timing, which would take half an hour.
    while not (place / "pilot" / "model").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b"error: interrupted; finished stages are kept in pilot; go on with --resume.\n"


def test_main_takes_any_sequence(place, capsys):
    assert main(("list",)) == 0
    assert capsys.readouterr().out
