"""A year in the life of a line, made of small files: every kind of entry that pages show."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

from helpers.receipts import receipt_of
from ssmith.core.receipt import Receipt
from ssmith.release.adding import Artefact, keep
from ssmith.release.begin import init
from ssmith.release.evidence import Paper
from ssmith.release.manifest import manifest_of
from ssmith.release.policy import Policy, Promote
from ssmith.release.promotion import promote, rollback

MACHINE = {"python": "3.11.9", "machine": "AMD EPYC 9454 (x86_64, Linux)", "ssmith": "0.1.0"}
DENSE, SMALL, TINY = "d1" * 32, "5a" * 32, "71" * 32
NAME = "Digits <reader> & co"


@dataclass
class Clock:
    """Shows the day that was set."""

    now: datetime = field(default=datetime(2026, 1, 5, 9, tzinfo=UTC))

    def __call__(self):
        return self.now

    def to(self, month, day, hour=9):
        self.now = datetime(2026, month, day, hour, tzinfo=UTC)


def receipt(
    after,
    *,
    accepted=True,
    quality=0.9806,
    low=-0.0111,
    removed=171,
    size=214_390,
    time="2026-03-02T08:00:00Z",
):
    """What a pilot would write of a model cut from the dense one."""
    return receipt_of(
        action="pilot",
        model={"name": "embedded:digits-s5", "family": "s5", "task": "classification",
               "layers": 4, "digest_before": DENSE, "digest_after": after},
        method={"criterion": {"name": "State-OBS"}, "budget": {"state": 0.33}},
        seed=0,
        versions=MACHINE,
        data={"name": "digits", "sha256": "5c" * 32, "source": "scikit-learn",
              "counts": {"train": 1077, "test": 360}},
        removed={"states": {"before": 256, "after": removed, "fraction": 1 - removed / 256}},
        quality={
            "metric": "accuracy", "higher_is_better": True, "split": "test", "count": 360,
            "before": {"value": 0.9833, "low": 0.9641, "high": 0.9923},
            "after": {"value": quality, "low": quality - 0.02, "high": quality + 0.01},
            "difference": {"value": quality - 0.9833, "low": low, "high": 0.0056},
            "loss": {"value": 0.9833 - quality, "upper_bound": -low},
            "level": 0.95,
        },
        speed={"per_batch": {"before": 0.00214, "after": 0.00153}},
        size={"bytes": {"before": 312_004, "after": size}},
        parity={"passed": True},
        saving={"currency": "EUR", "cost_per_month": {"before": 2680.0, "after": 1910.0},
                "saved_per_month": 770.0},
        verdict={
            "accepted": accepted,
            "headline": "A third of the states can go: the model is 31 % smaller.",
            "reasons": [{"gate": "quality", "passed": accepted, "text": "accuracy changed"}],
        },
        findings=[{"layer": "", "kind": "unsettled", "message": "times had not settled"}],
        details={"layers": [{"name": f"blocks.{place}.ssm", "grid": [64], "before": 64,
                             "after": removed // 4} for place in range(4)]},
        time=time,
    ).as_dict()  # fmt: skip


def look(*, times, drift, quality=0.98):
    """What a watch would write: the cut costs so many times as much as at release."""
    alarm = times > 2
    finding = {
        "kind": "cut", "alarm": True, "since": "2026-07-19T09:00:00Z", "row": None,
        "what": f"the cut costs more than at release: {times:.3g} times as much",
        "sure": "p = 1e-09 on 512 rows", "do": ["ssmith release rollback line"],
        "size": {"value": 0.034, "low": 0.021, "high": 0.05, "unit": "points"},
    }  # fmt: skip
    return {
        "action": "watch", "line": NAME, "version": "", "profile": "", "data": {}, "versions": {},
        "time": "2026-07-19T09:00:00Z", "number": 1, "rows": 512, "there": 512, "alarm": alarm,
        "headline": finding["what"] if alarm else "nothing has drifted",
        "findings": [finding] if alarm else [],
        "cut": {"sites": {
            f"blocks.{place}.ssm": {
                "now": 0.008 * times, "at_release": 0.008, "removed": 0.01 * times,
                "removed_at_release": 0.01, "times": [times / place, times / place * 0.8,
                                                      times / place * 1.2],
            } for place in (1, 2)}, "loss": None,
            "disagree": 0.01, "disagree_high": 0.02, "disagree_at_release": 0.01},
        "drifts": [
            {"kind": kind, "place": place, "what": "mean", "alarm": alarm, "distance": drift,
             "before": 0.31, "now": 0.31 + drift, "p": 0.1, "adjusted": 0.2, "moved": drift,
             "rows": 512}
            for kind, place in (("input", "pixel"), ("output", "answers"))],
        "quality": {"metric": "accuracy", "now": quality, "promised": 0.9806, "decision": "open",
                    "rows": 512, "loss": 0.0, "interval": [-0.1, 0.1], "capped": 0.0},
        "settings": {"least": 0.1},
    }  # fmt: skip


def model(directory, tensors, *, parent=None, size=3000):
    """Files that look like a saved model, and what a line is told of them."""
    directory.mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(tensors.encode() * (size // 64))
    (directory / "README.md").write_text(
        "---\nlibrary_name: ssmith\n---\n\n# Digits\n\nReads digits.\n\n"
        "| | |\n|---|---|\n| family | s5 |\n",
        encoding="utf-8",
    )
    return Artefact(directory=directory, name=directory.name, kind="model",
                    manifest=manifest_of(directory), tensors=tensors, parent=parent)  # fmt: skip


def paper(content, tmp_path):
    return Paper(path=tmp_path / "receipt.json", raw=json.dumps(content).encode(),
                 receipt=Receipt.from_json(content))  # fmt: skip


def make_year(root, models):
    """Make the line and return it with its clock: live are version 1, 2, 3 by override, and 2."""
    clock = Clock()
    policy = Policy(promote=Promote(max_loss="1 points", override=True, parity=False))
    line = init(root, policy, name=NAME, clock=clock)
    first = keep(line, model(models / "dense", DENSE, size=9000), reason="as it was trained")
    clock.to(1, 6)
    assert promote(line, first, reason="the first release").promoted
    clock.to(3, 2)
    second = keep(
        line, model(models / "small", SMALL, parent=DENSE), reason="the pilot of February",
        papers=[paper(receipt(SMALL), models)],
    )  # fmt: skip
    clock.to(3, 3)
    assert promote(line, second, reason="the pilot of February").promoted
    clock.to(4, 1)
    watched(line, second, look(times=1.1, drift=0.03))
    clock.to(5, 10)
    third = keep(
        line, model(models / "tiny", TINY, parent=DENSE, size=1000), reason="nine tenths removed",
        papers=[paper(receipt(TINY, accepted=False, quality=0.951, low=-0.05, removed=25,
                              size=103_000, time="2026-05-10T08:00:00Z"), models)],
    )  # fmt: skip
    line.record("canary", version=third, reason="200 of 200 requests as if alone",
                details={"requests": 200, "passed": True})  # fmt: skip
    clock.to(5, 11)
    assert not promote(line, third).promoted
    clock.to(7, 11)
    reason = "asked for by the customer until August, agreed with the head of quality, ticket 8812"
    assert promote(line, third, reason=reason, override=True).promoted
    clock.to(7, 20)
    watched(line, third, look(times=6.4, drift=0.31, quality=0.93))
    clock.to(7, 21)
    rollback(line, reason="the alarm of 20 July")
    for month in (9, 11):
        clock.to(month, 21)
        watched(line, second, look(times=1.0 + month / 100, drift=0.05))
    return line, clock


def watched(line, version, content):
    line.record(
        "alarm" if content["alarm"] else "watch", version=version, receipts=(content,),
        reason="the cut costs more" if content["alarm"] else "nothing has drifted",
        details={"alarms": ["cut"] if content["alarm"] else [], "rows": 512},
    )  # fmt: skip
