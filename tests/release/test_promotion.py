"""What may go live, what is live, and the way back; all of it in the log."""

from datetime import timedelta

import pytest

from helpers.lines import START, Shelf, paper, receipt, relaxed
from ssmith.core.errors import ArtefactError, InputError
from ssmith.release.adding import keep_papers
from ssmith.release.consent import change_policy
from ssmith.release.line import Line
from ssmith.release.moments import written
from ssmith.release.policy import policy_from
from ssmith.release.promotion import promote, rollback, rules_for
from ssmith.release.version import short


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def actions(line):
    return [item.action for item in line.entries()]


def failed(rules):
    return {rule.name for rule in rules if not rule.passed}


def test_promote_and_rollback_exchange_one_link(shelf):
    line, names = shelf.line, ("one", "two", "three")
    versions = [shelf.add(name) for name in names]
    assert line.live is None
    for version in versions:
        assert promote(line, version, reason="why").promoted
        assert shelf.live_link() == version.path.name
        assert line.live == Line.open(line.path).version(version.digest)
    bytes_before = (line.path / "live" / "model.safetensors").read_bytes()
    assert rollback(line).version == versions[1].digest
    assert rollback(line).version == versions[0].digest
    with pytest.raises(InputError, match="nothing to go back to"):
        rollback(line)
    # Named: forward again to what was live, and from there the way back is the way it came.
    assert rollback(line, versions[2]).version == versions[2].digest
    assert (line.path / "live" / "model.safetensors").read_bytes() == bytes_before
    assert rollback(line).version == versions[0].digest
    assert actions(line) == ["init", *3 * ["add"], *3 * ["promote"], *4 * ["rollback"]]


def test_a_line_without_versions_says_how_to_add_one(shelf):
    for name in ("newest", "abcd"):
        with pytest.raises(InputError, match="holds no version; next: ssmith release add"):
            shelf.line.version(name)


def test_what_was_live_is_known_for_every_time(shelf):
    line = shelf.line
    first, second = shelf.add("one"), shelf.add("two")
    moments = [START]
    expected = [None]
    for step, wanted in (
        (lambda: promote(line, first), first),
        (lambda: promote(line, second), second),
        (lambda: rollback(line), first),
    ):
        moments.append(shelf.clock.now + timedelta(seconds=30))
        expected.append(expected[-1])
        step()
        moments.append(shelf.clock.now)
        expected.append(wanted)
    for moment, version in zip(moments, expected, strict=True):
        assert line.at(moment) == version, moment
    assert line.at(START - timedelta(days=100)) is None
    assert line.at(START + timedelta(days=100)) == first


def test_only_what_was_live_is_gone_back_to(shelf):
    line = shelf.line
    first, second = shelf.add("one"), shelf.add("two")
    with pytest.raises(InputError, match="no version is live yet"):
        rollback(line)
    promote(line, first)
    with pytest.raises(InputError, match="was never live"):
        rollback(line, second)
    with pytest.raises(InputError, match="is live"):
        rollback(line, first)
    again = promote(line, first)
    assert again.promoted
    assert again.entry is None
    assert actions(line) == ["init", "add", "add", "promote"]


def test_changed_bytes_do_not_go_live_whatever_the_reason(shelf):
    line = Shelf(shelf.place / "other", relaxed(override=True)).line
    inner = Shelf.__new__(Shelf)
    inner.place, inner.line, inner.clock = shelf.place, line, line.clock
    first, second = inner.add("one"), inner.add("two")
    promote(line, first)
    promote(line, second)
    weights = first.path / "model.safetensors"
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    with pytest.raises(ArtefactError, match=r"model.safetensors was changed"):
        rollback(line)
    outcome = promote(line, first, override=True, reason="at all costs")
    assert not outcome.promoted
    assert failed(outcome.rules) == {"bytes"}
    assert inner.live_link() == second.path.name
    assert actions(line)[-1] == "refuse"


def judged(tmp_path, said, settings, **more):
    shelf = Shelf(tmp_path)
    assert promote(shelf.line, shelf.add("dense")).promoted
    change_policy(shelf.line, policy_from({"promote": settings}, where="policy"))
    return shelf, shelf.add("small", said, parent="dense", **more)


@pytest.mark.parametrize(
    ("said", "settings", "wrong"),
    [
        ({"loss": 0.009}, {}, set()),
        ({"loss": 0.0091}, {}, {"max_loss"}),
        ({"loss": 0.005}, {"max_loss": "0.5 points"}, set()),
        ({"loss": 0.0051}, {"max_loss": "0.5 points"}, {"max_loss"}),
        ({"loss": 0.001, "upper": 0.02}, {}, set()),
        ({"loss": 0.001, "upper": 0.02}, {"proof": True}, {"proof"}),
        ({"loss": 0.001, "upper": 0.009}, {"proof": True}, set()),
        ({"accepted": False}, {}, {"verdict"}),
        ({"accepted": False}, {"max_loss": "any"}, set()),
        ({"parity": False}, {}, {"parity"}),
        ({"parity": None}, {}, {"parity"}),
        ({"parity": None}, {"parity": False}, set()),
        ({}, {"data": "sha256:" + 64 * "d"}, set()),
        ({}, {"flips": "2%"}, {"flips"}),
        ({}, {"canary": {"requests": 9}}, {"canary"}),
        ({}, {"shadow": {"at_least": 5, "disagree": "3%"}}, {"shadow"}),
        ({}, {"slices": {"column": "machine", "max_loss": "3%"}}, {"slices"}),
    ],
)
def test_every_rule_refuses_and_lets_pass(tmp_path, said, settings, wrong):
    shelf, small = judged(tmp_path, receipt("small", **said), settings)
    rules = rules_for(shelf.line, small)
    assert failed(rules) == wrong
    # What does not hold comes with the command that would settle it, on this version.
    for rule in rules:
        assert rule.passed or rule.settle.startswith("ssmith "), rule
    outcome = promote(shelf.line, small, reason="June")
    assert outcome.promoted == (not wrong)
    assert outcome.entry.action == ("refuse" if wrong else "promote")
    assert {item["name"] for item in outcome.entry.details["rules"]} == {it.name for it in rules}
    assert (shelf.line.live == small) == (not wrong)


def test_a_receipt_of_tuning_is_no_comparison(tmp_path):
    number = {"value": 0.1, "low": 0.0, "high": 0.2}
    both = {"before": number, "after": number, "difference": number}
    tuned = receipt("small", action="tune", quality={"loss": both, "accuracy": both})
    shelf, small = judged(tmp_path, tuned, {})
    (rule,) = (item for item in rules_for(shelf.line, small) if not item.passed)
    assert (rule.name, rule.found) == ("max_loss", "no comparison")
    assert rule.settle.startswith("ssmith compare")


def test_a_verdict_on_other_data_or_an_old_one_does_not_count(tmp_path):
    shelf, small = judged(tmp_path, receipt("small"), {"verdict_age_days": 7})
    assert failed(rules_for(shelf.line, small)) == set()
    shelf.clock.now += timedelta(days=8)
    assert failed(rules_for(shelf.line, small)) == {"verdict_age_days"}
    # The same paper once more is as old as it was; a new one is not.
    keep_papers(shelf.line, small, [paper(tmp_path / "again.json", receipt("small"))])
    assert failed(rules_for(shelf.line, shelf.line.version("newest"))) == {"verdict_age_days"}
    newer = receipt("small", time=written(shelf.clock.now - timedelta(days=6)))
    keep_papers(shelf.line, small, [paper(tmp_path / "newer.json", newer)])
    assert failed(rules_for(shelf.line, shelf.line.version("newest"))) == set()
    # Nor is an old one that is brought today; by a clock that was ahead, it is as old as its entry.
    for name, time, wrong in (
        ("old", written(shelf.clock.now - timedelta(days=366)), {"verdict_age_days"}),
        ("ahead", written(shelf.clock.now + timedelta(days=366)), set()),
    ):
        keep_papers(shelf.line, small, [paper(tmp_path / name, receipt("small", time=time))])
        assert failed(rules_for(shelf.line, shelf.line.version("newest"))) == wrong
    shelf.clock.now += timedelta(days=8)
    assert failed(rules_for(shelf.line, shelf.line.version("newest"))) == {"verdict_age_days"}
    other = Shelf(
        tmp_path / "b", policy_from({"promote": {"data": "sha256:" + 64 * "e"}}, where="policy")
    )
    version = other.add("small", receipt("small"))
    assert failed(rules_for(other.line, version)) == {"data"}


@pytest.mark.parametrize("time", [None, "yesterday", "2026-01-01T00:00:00"])
def test_a_verdict_that_does_not_say_when_it_was_given_is_not_young(tmp_path, time):
    shelf, small = judged(tmp_path, receipt("small", time=time), {"verdict_age_days": 7})
    (rule,) = (item for item in rules_for(shelf.line, small) if not item.passed)
    assert rule.name == "verdict_age_days"
    assert "does not say when" in rule.found and rule.settle.startswith("ssmith compare")
    # Where nobody asks for an age, nobody asks for a time.
    shelf, small = judged(
        tmp_path / "any", receipt("small", time=time), {"verdict_age_days": "any"}
    )
    assert not failed(rules_for(shelf.line, small))


def test_without_a_verdict_only_the_first_original_goes_live(tmp_path):
    shelf = Shelf(tmp_path, policy_from({"promote": {"parity": False}}, where="policy"))
    cut, dense, later = shelf.add("cut", parent="dense"), shelf.add("dense"), shelf.add("later")
    assert failed(rules_for(shelf.line, cut)) == {"max_loss"}
    assert promote(shelf.line, dense).promoted
    assert failed(rules_for(shelf.line, later)) == {"max_loss"}
    found = next(item for item in rules_for(shelf.line, later) if item.name == "max_loss")
    assert str(dense.path) in found.settle
    assert str(later.path) in found.settle


def test_what_others_found_out_is_read_from_their_newest_entry(tmp_path):
    settings = {
        "flips": "2%",
        "canary": {"requests": 200},
        "shadow": {"at_least": 500, "disagree": "3%"},
        "slices": {"column": "machine", "max_loss": "0.5 points"},
    }
    shelf, small = judged(tmp_path, receipt("small"), settings)
    line = shelf.line

    def audit(loss, flips):
        worst = {"worst": "m2", "loss": loss, "groups": 2}
        details = {"flips": flips, "slices": {"machine": worst}, "metric": "accuracy"}
        line.record("audit", version=small, details=details)

    line.record("canary", version=small, details={"requests": 200, "passed": True})
    line.record("shadow", version=small, details={"rows": 500, "disagreement": 0.03})
    audit(0.005, 0.02)
    assert failed(rules_for(line, small)) == set()
    audit(0.0051, 0.0201)
    assert failed(rules_for(line, small)) == {"flips", "slices"}
    line.record("canary", version=small, details={"requests": 199, "passed": True})
    line.record("shadow", version=small, details={"rows": 499, "disagreement": 0.0})
    assert failed(rules_for(line, small)) == {"flips", "slices", "canary", "shadow"}
    line.record("canary", version=small, details={"requests": 200, "passed": False})
    line.record("shadow", version=small, details={"rows": 900, "disagreement": 0.031})
    assert failed(rules_for(line, small)) == {"flips", "slices", "canary", "shadow"}


@pytest.mark.parametrize(
    ("max_loss", "loss", "passes"),
    [("3%", 0.0269, True), ("3%", 0.0271, False), ("2 points", 0.02, True), (0.02, 0.021, False)],
)
def test_a_share_of_a_group_is_of_the_metric_before(tmp_path, max_loss, loss, passes):
    settings = {"slices": {"column": "machine", "max_loss": max_loss}}
    shelf, small = judged(tmp_path, receipt("small"), settings)
    worst = {"worst": "m2", "loss": loss, "groups": 2}
    details = {"slices": {"machine": worst}, "metric": "accuracy"}
    shelf.line.record("audit", version=small, details=details)
    assert failed(rules_for(shelf.line, small)) == (set() if passes else {"slices"})


def test_an_override_needs_the_policy_and_a_reason_and_stays_visible(tmp_path):
    shelf, small = judged(tmp_path / "no", receipt("small", loss=0.1), {})
    with pytest.raises(InputError, match="allows no override"):
        promote(shelf.line, small, override=True, reason="now")
    shelf, small = judged(tmp_path / "yes", receipt("small", loss=0.1), {"override": True})
    with pytest.raises(InputError, match="without a reason"):
        promote(shelf.line, small, override=True, reason=" ")
    outcome = promote(shelf.line, small, override=True, reason="the old one is down")
    assert outcome.promoted
    assert outcome.entry.action == "override"
    assert outcome.entry.reason == "the old one is down"
    assert shelf.line.live == small
    # Nothing is waived where nothing is wrong.
    fine = shelf.add("fine", receipt("fine"))
    assert promote(shelf.line, fine, override=True, reason="x").entry.action == "promote"


def test_versions_are_named_by_the_first_digits(shelf):
    first, second = shelf.add("one"), shelf.add("two")
    for prefix in (short(first.digest), first.digest, first.digest[:15], first.path.name[:4]):
        assert shelf.line.version(prefix) == first
    for wrong, said in (("zzzz", "is no digest"), ("ab", "is no digest"), (64 * "0", "no version")):
        with pytest.raises(InputError, match=said) as caught:
            shelf.line.version(wrong)
        assert short(second.digest) in str(caught.value)
    with pytest.raises(InputError, match="no version is live"):
        shelf.line.version("live")
    promote(shelf.line, first)
    assert shelf.line.version("live") == shelf.line.version(first.digest)
    assert shelf.line.version("newest") == shelf.line.version(second.digest)
