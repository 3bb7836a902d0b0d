"""Rules and findings are retold in the language of a page, whatever values stand in them."""

import re

import pytest

from helpers.lines import Shelf, receipt, relaxed
from ssmith.core.looks import CutCosts, Drifted, Loss, QualityNow, SiteCost
from ssmith.dashboard.language import Language
from ssmith.dashboard.retelling import retell
from ssmith.evaluation.changes import Change
from ssmith.evaluation.metrics import ACCURACY
from ssmith.release.consent import change_policy
from ssmith.release.promotion import promote, rules_for
from ssmith.release.verify import verify
from ssmith.watch.findings import Commands, of_cut, of_drifts, of_quality

JAPANESE = Language("ja")
NAMES = {"blocks", "ssm", "machine", "sha", 64 * "d"}
"""What is called so in every language."""


def left(text):
    """Words of a retold sentence that are still English."""
    told = retell(JAPANESE, text)
    return None if told is None else set(re.findall("[A-Za-z]{3,}", told)) - NAMES


def drift(place, what, kind="input"):
    return Drifted(
        kind=kind, place=place, what=what, alarm=True, p=1e-9, adjusted=2e-8, distance=0.4,
        moved=1.0, before=0.5, now=1.5, rows=200, since="2026-01-01T00:00:00Z",
    )  # fmt: skip


def findings():
    loss = Loss(value=0.05, low=0.01, high=0.09)
    site = SiteCost(now=0.09, at_release=0.01, times=(9.0, 7.0, 11.0), removed=0.1,
                    removed_at_release=0.02, refit=0.01)  # fmt: skip
    can = Commands(dense="dense", earlier=True)
    for beyond in (0.0, 0.5):
        costs = CutCosts(
            sites={"blocks.0.ssm": site}, disagree=0.1, disagree_high=0.12,
            disagree_at_release=0.01, loss=loss, beyond=beyond,
        )  # fmt: skip
        for place in ("blocks.0.ssm", "answers"):
            yield from of_cut([drift(place, "cost", "cut")], costs, ACCURACY, can)
    places = [drift(f"channel {k}", what) for k in range(7)
              for what in ("mean", "part 2 of 4", "out of range")]  # fmt: skip
    for cut in (True, False):
        yield from of_drifts("input", places, cut=cut, can=can)
    for decision in ("worse", "open"):
        quality = QualityNow(
            metric="accuracy", now=0.8, promised=0.9, decision=decision, rows=40, loss=0.1,
            interval=(0.05, 0.15), capped=0.0,
        )  # fmt: skip
        yield from of_quality(quality, ACCURACY, can)


@pytest.mark.parametrize("finding", [*findings()], ids=lambda item: item.kind)
def test_findings_are_retold(finding):
    assert left(finding.what) == set(), retell(JAPANESE, finding.what)
    assert not finding.sure or left(finding.sure) == set()


def test_rules_are_retold(tmp_path):
    policy = relaxed(
        max_loss="0.5 points", proof=True, parity=True, data=f"sha256:{64 * '1'}", flips="2%",
        slices={"column": "machine", "max_loss": "3%"}, canary={"requests": 20},
        shadow={"at_least": 50, "disagree": "3%"}, signers={"at_least": 1},
    )  # fmt: skip
    shelf = Shelf(tmp_path, relaxed())
    promote(shelf.line, shelf.add("dense"), reason="the first")
    change_policy(shelf.line, policy, reason="stricter")
    bare = rules_for(shelf.line, shelf.add("bare"))
    version = shelf.add("small", receipt("small", loss=0.002, upper=0.004))
    shelf.line.record("canary", version=version, reason="", receipts=(),
                      details={"requests": 40, "passed": False})  # fmt: skip
    shelf.line.record(
        "audit", version=version, reason="", receipts=(),
        details={"flips": 0.1, "metric": "accuracy",
                 "slices": {"machine": {"worst": "7", "loss": 0.1, "groups": 3}}},
    )  # fmt: skip
    rules = [*bare, *rules_for(shelf.line, version)]
    assert len({rule.name for rule in rules}) == 12
    for rule in rules:
        assert left(rule.asked) == set(), rule.asked
        if rule.name != "verdict" and not re.fullmatch(r"[\d.]+ ?%", rule.found):
            assert left(rule.found) == set(), rule.found


def test_what_a_check_found_and_where_a_version_came_from_are_retold(tmp_path):
    shelf = Shelf(tmp_path, relaxed())
    first = promote(shelf.line, shelf.add("one"), reason="the first").entry
    version = shelf.line.version(str(first.version))
    kept = next(item for item in version.path.iterdir() if item.is_file())
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes() + b"!")
    (version.path / "new").write_text("x")
    (tmp_path / "line" / "scrap").write_text("x")
    (tmp_path / "line" / "live").unlink()
    checked = verify(shelf.line)
    assert {fault.where.split("/")[0] for fault in checked.faults} == {"versions", "scrap", "live"}
    for fault in checked.faults:
        # The names of directories stay.
        assert left(re.sub(r"versions/[0-9a-f]+", "1", fault.text)) == set(), fault
    ends = [way.end for way in checked.lineage]
    assert ends
    for text in (*ends, f"a model with digest {6 * '1'}, which is not in this line"):
        assert left(text) == set(), text
    assert left(f"{3 * '2'} ({6 * '1'}) ← {3 * '3'} ({6 * '4'}) ← {ends[0]}") == set()


def test_a_headline_is_retold():
    file = Change(name="file", before=100, after=78, kind="size")
    state = Change(name="state per sequence", before=100, after=51, kind="memory")
    text = f"50 % of state removed; accuracy 97.7 % → 90.1 %; {file.text}; {state.text}"
    told = retell(JAPANESE, text)
    assert left(text) == set(), told
    assert told.index("50 %") < told.index("97.7 %") < told.index("22 %") < told.index("49 %")
    assert left(f"No gain: neither size, memory nor time fell by 5 %; {text}") == set()
    assert left(f"Not accepted (quality): {text}") == set()


def test_a_refused_time_is_retold():
    times = "the time of one batch still changed by 20 % or more from one call to the next after "
    times += "4 calls (0.083 s) of warming up, and may hold part of that; repeat it on a machine "
    times += "with nothing else to do, or for longer"
    assert left(f"speed is not compared: {times}") <= {"the", "time", "one", "batch"}


@pytest.mark.parametrize(
    ("times", "said"),
    [(1.2, "at release: 1.2 times"), (0.8, "on part of the rows, though less on average: 0.8")],
)
def test_a_cut_that_costs_less_on_average_is_not_said_to_cost_more(times, said):
    site = SiteCost(now=0.05, at_release=0.06, times=(times, 0.7, 1.3))
    costs = CutCosts(sites={"a": site}, disagree=0.1, disagree_high=0.1, disagree_at_release=0.0)
    (finding,) = of_cut([drift("a", "cost", "cut")], costs, ACCURACY, Commands())
    assert said in finding.what
    assert left(finding.what) == set()


def test_what_nobody_knows_stays_as_it_is():
    assert retell(JAPANESE, "the head of quality agreed") is None
    # Nor are marks changed between words that stay; beside one that is known, they are.
    assert (
        retell(JAPANESE, "Winter or summer, from 24 hours (of power). Three layers; small: 2.")
        is None
    )
    assert retell(JAPANESE, "0.9 (Wilson, 110 sequences)") == "0.9（Wilson、系列 110 件）"
