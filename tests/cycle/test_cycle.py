"""A cycle: its gates, what it leaves in the log, and that a kill costs nothing finished."""

import json
import os
import signal
from collections import Counter
from types import SimpleNamespace

import pytest

from helpers.pages import ROOT
from helpers.year import DENSE, SMALL, model, paper, receipt
from ssmith.cli.main import main
from ssmith.core.details import CanaryDetails
from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.receipt import moment
from ssmith.cycle import CycleConfig, Renew, read_cycle, run_cycle, steps
from ssmith.cycle.renewing import Renewed
from ssmith.release.adding import keep, keep_profile
from ssmith.release.begin import init
from ssmith.release.case import Rule
from ssmith.release.line import Line
from ssmith.release.policy import Policy, Promote
from ssmith.release.promotion import promote

EVERY = list(steps.STEPS)
RENEW = Renew(when="alarm", how="recalibrate", model="dense", data="data")


@pytest.fixture
def line(tmp_path):
    policy = Policy(promote=Promote(max_loss="1 points", parity=False))
    made = init(tmp_path / "line", policy)
    first = keep(made, model(tmp_path / "models" / "dense", DENSE))
    assert promote(made, first).promoted
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "profile.json").write_text("{}")
    keep_profile(made, first, tmp_path / "profile")
    return made


@pytest.fixture
def world(line, tmp_path, monkeypatch):
    """What the steps call, with answers that tests may change, and a list of what was called."""
    world = SimpleNamespace(alarm=True, accepted=True, clean=True, calls=[], small=None)
    artefact = model(tmp_path / "models" / "small", SMALL, parent=DENSE)

    class Watch:
        def __init__(self, *, line, version, config):
            self.line, self.version = line, version

        def look(self, data, *, labels):
            world.calls.append("watch")
            action = "alarm" if world.alarm else "watch"
            self.line.record(action, version=self.version, reason="seen")
            return SimpleNamespace(look=SimpleNamespace(alarm=world.alarm, headline="seen"))

    def renewed(*_, **__):
        world.calls.append("renew")
        return Renewed(directory=tmp_path, accepted=world.accepted, headline="made anew")

    def added(into, made):
        content = receipt(SMALL, accepted=world.accepted, time=moment())
        return keep(into, artefact, papers=[paper(content, tmp_path)])

    def written(action, reason, **details):
        live = Line.open(line.path)
        live.record(action, version=live.version("newest"), reason=reason, details=details)

    def audited(*_, **__):
        world.calls.append("audit")
        written("audit", "2 % changed")
        return SimpleNamespace(headline="2 % changed")

    monkeypatch.setattr(steps, "Watch", Watch)
    monkeypatch.setattr(steps, "recalibrate", renewed)
    monkeypatch.setattr(steps, "add_version", added)

    def asked(*_, **__):
        world.calls.append("canary")
        written("canary", "200 requests", passed=world.clean)
        seen = CanaryDetails(requests=200, cancelled=0, leaks=(), passed=world.clean)
        return SimpleNamespace(details=seen), "200 requests"

    monkeypatch.setattr(steps, "audit_behaviour", audited)
    monkeypatch.setattr(steps, "run_canary", asked)
    monkeypatch.setattr(steps, "take_profile", lambda *_: world.calls.append("profile"))
    return world


def go(line, tmp_path, **changes):
    config = CycleConfig(**{"data": "today", "renew": RENEW} | changes)
    return run_cycle(line, config, tmp_path / "work")


def told(line):
    return [entry.details["cycle"]["step"] for entry in line.entries() if "cycle" in entry.details]


def test_an_alarm_leads_to_a_proposal_and_to_no_promotion(line, world, tmp_path):
    live = line.live
    found = go(line, tmp_path)
    assert [step.name for step in found.steps] == EVERY
    assert found.last.passed
    assert "every rule of the policy holds" in found.last.text
    assert found.last.next_step.startswith(f"ssmith release promote {line.path} ")
    assert line.live.digest == live.digest
    assert told(line) == ["begin", *EVERY]
    assert found.last.version == line.versions()[-1].digest


def test_without_an_alarm_there_is_nothing_to_do(line, world, tmp_path):
    world.alarm = False
    found = go(line, tmp_path)
    assert [step.name for step in found.steps] == ["verify", "watch", "decide"]
    assert found.last.passed
    assert world.calls == ["watch"]
    assert len(line.versions()) == 1


def test_a_person_decides_where_the_config_says_so(line, world, tmp_path):
    found = go(line, tmp_path, renew=Renew(when="never"))
    assert found.last.name == "decide"
    assert not found.last.passed
    assert "rollback" in found.last.next_step


def test_it_may_renew_without_an_alarm(line, world, tmp_path):
    world.alarm = False
    always = Renew(when="always", how="recalibrate", model="dense", data="data")
    assert go(line, tmp_path, renew=always).last.name == "propose"


def test_a_refused_pilot_stops_it_before_the_line_gets_a_version(line, world, tmp_path):
    world.accepted = False
    found = go(line, tmp_path)
    assert found.last.name == "renew"
    assert not found.last.passed
    assert len(line.versions()) == 1


def test_a_leak_stops_it_before_anything_is_proposed(line, world, tmp_path):
    world.clean = False
    found = go(line, tmp_path)
    assert found.last.name == "canary"
    assert not found.last.passed
    assert found.last.next_step.startswith("ssmith canary ")


def test_trials_may_be_left_out(line, world, tmp_path):
    found = go(line, tmp_path, audit=None, canary=None, profile=False)
    assert found.last.name == "propose"
    assert world.calls == ["watch", "renew"]


def test_a_damaged_file_stops_it_at_once(line, world, tmp_path):
    (line.live.path / "model.safetensors").write_bytes(b"other")
    found = go(line, tmp_path)
    assert [step.name for step in found.steps] == ["verify"]
    assert world.calls == []


def test_a_rule_that_does_not_hold_names_what_settles_it(line, world, tmp_path, monkeypatch):
    rule = Rule(
        name="shadow", asked="500 rows", found="0 rows", passed=False, settle="ssmith trial"
    )
    monkeypatch.setattr(steps, "rules_for", lambda *_: (rule,))
    found = go(line, tmp_path)
    assert not found.last.passed
    assert found.last.next_step == "ssmith trial"


def test_no_live_version_or_no_profile_is_said_with_the_next_step(world, tmp_path):
    empty = init(tmp_path / "empty", Policy(promote=Promote(parity=False)))
    assert "release promote" in go(empty, tmp_path).last.next_step
    promote(empty, keep(empty, model(tmp_path / "models" / "other", "0f" * 32)))
    assert "--take" in go(empty, tmp_path).last.next_step


@pytest.mark.parametrize("step", EVERY)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_step_it_goes_on_behind_what_it_had_finished(
    line, world, tmp_path, monkeypatch, step, moment
):
    real = steps.STEPS[step]

    def deadly(here):
        found = real(here) if moment == "after" else None
        os.kill(os.getpid(), signal.SIGKILL)
        return found

    child = os.fork()
    if child == 0:
        monkeypatch.setitem(steps.STEPS, step, deadly)
        go(line, tmp_path)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    found = go(line, tmp_path)
    assert found.resumed
    assert found.last.passed
    # What was written down is not spent twice, and nothing finished is done again.
    actions = Counter(entry.action for entry in line.entries())
    assert [actions[name] for name in ("alarm", "audit", "canary")] == [1, 1, 1]
    assert told(line) == ["begin", *EVERY]
    finished = EVERY[: EVERY.index(step)]
    assert not {"watch", "renew", "profile", "audit", "canary"} & set(finished) & set(world.calls)
    assert len(line.versions()) == 2


def test_the_next_cycle_begins_anew_and_sweeps_what_the_last_one_made(line, world, tmp_path):
    first = go(line, tmp_path)
    left = tmp_path / "work" / f"cycle-{first.number}"
    (left / "pilot").mkdir(parents=True)
    (tmp_path / "work" / "cycle-notes").mkdir()
    second = go(line, tmp_path)
    assert not second.resumed
    assert second.number > first.number
    assert not left.exists()
    assert (tmp_path / "work" / "cycle-notes").exists()


def test_other_settings_begin_another_cycle(line, world, tmp_path, monkeypatch):
    def full(here):
        raise ArtefactError("disk full")

    with monkeypatch.context() as patched:
        patched.setitem(steps.STEPS, "audit", full)
        with pytest.raises(ArtefactError):
            go(line, tmp_path)
    assert not go(line, tmp_path, data="tomorrow").resumed


def test_the_command_tells_each_step_and_ends_with_its_code(line, world, tmp_path, capsys):
    config = tmp_path / "cycle.toml"
    config.write_text('data = "today"\n[renew]\nwhen = "never"\n', encoding="utf-8")
    words = ["cycle", str(line.path), "--config", str(config), "--work", str(tmp_path / "work")]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "decide: an alarm is open" in said
    assert "next: ssmith release rollback" in said
    world.alarm = False
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "lacks data"),
        ('data = "x"\nlable = true', "unknown setting 'lable'"),
        ('data = "x"\n[renew]\nwhen = "alarm"', "renew lacks data"),
        ('data = "x"\n[renew]\ndata = "y"', "renew lacks model"),
        ('data = "x"\n[renew]\nhow = "retune"\ndata = "y"', "retune without tune"),
        ('data = "x"\n[renew]\nwhen = "sometimes"', "'alarm', 'always', 'never'"),
        ('data = "x"\n[pilot]\nmax_los = 1', "unknown setting 'max_los'"),
        ("data = ", "is no TOML"),
    ],
)
def test_a_mistake_in_the_config_is_named(tmp_path, content, said):
    path = tmp_path / "cycle.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises((InputError, ArtefactError), match=said):
        read_cycle(path)


def test_the_example_that_comes_along_is_a_config():
    config = read_cycle(ROOT / "recipes" / "operate" / "cycle.toml")
    assert config.renew.how == "recalibrate"
