"""Reports of every kind of receipt in a real browser: nothing is cut off on screens or paper."""

from dataclasses import replace

import pytest

from helpers.browser import WIDTHS, browser, opened, problems
from ssmith.core.receipt import Receipt
from ssmith.report import write_index, write_report

KINDS = ("pilot", "refused", "prune", "grid", "tune", "compare", "train", "eval", "audit")
PAPER = 696
"""Width of an A4 page between its margins, in CSS pixels."""


def tuned(base):
    """What tuning writes: measures before and after, and no curve."""
    estimate = {"value": 1.2, "low": 1.1, "high": 1.3}
    difference = {"value": -0.2, "low": -0.25, "high": -0.15}
    loss = {"before": estimate, "after": estimate, "difference": difference}
    return Receipt(
        action="tune", model={"name": "base"}, method={"methods": ["state-offset-h"]}, seed=0,
        versions=base.versions, data={"name": "prose"},
        quality={"count": 8, "loss": loss, "bits_per_byte": loss},
        speed={"training_seconds": 2.5}, size={"trained_parameters": 64, "share": 0.001},
    )  # fmt: skip


def audited(base):
    """What an audit writes: answers that changed, of all rows and by group."""
    estimate = {"value": 0.125, "low": 0.05, "high": 0.25, "level": 0.95, "interval": "Wilson"}
    group = {"name": "an unusually long name of a machine", "rows": 40, "changed": estimate,
             "broken": 4, "mended": 1, "before": 0.9, "loss": estimate}  # fmt: skip
    return replace(base, action="audit", quality={}, verdict={}, details={
        "metric": "accuracy", "whole": {**group, "name": ""}, "groups": {"machine": [group] * 3},
        "moves": [{"from": "3", "to": "8", "rows": 4}],
    })  # fmt: skip


@pytest.fixture
def receipts(accepted, refused, grid, empty):
    """One of every kind, with the longest words that stand in cells."""
    why = "not available: timed alone by `make bench-scan`"
    samples = {"before": [0.0021, 0.0022], "after": [0.0023, 0.0024]}
    unsettled = {"before": 0.00214, "after": 0.00213, "samples": samples}
    speed = accepted.speed | {"per_batch": unsettled,
                              "per_step": {"before": None, "after": None, "why": why}}  # fmt: skip
    finding = {
        "layer": "encoder.stages.0.blocks.residual_branch",
        "kind": "duplicates_across_splits",
        "message": "the time of one batch still changed by 20 % or more",
        "units": [1],
    }
    found = {
        "pilot": replace(accepted, speed=speed, findings=[finding]),
        "refused": refused,
        "prune": empty,
        "grid": grid,
        "tune": tuned(accepted),
        "compare": replace(accepted, action="compare", verdict={}),
        "train": replace(empty, action="train", quality=accepted.quality),
        "eval": replace(empty, action="eval", quality=accepted.quality),
        "audit": audited(accepted),
    }
    assert tuple(found) == KINDS
    return found


def test_every_report_and_their_list_can_be_read(receipts, tmp_path):
    pages = {kind: write_report(item, tmp_path / kind) for kind, item in receipts.items()}
    rows = [(kind, page, receipts[kind]) for kind, page in pages.items()]
    pages["list"] = write_index(rows, tmp_path, title="All")
    with browser() as running:
        for kind, page in pages.items():
            with opened(running, page.as_uri()) as shown:
                for width in WIDTHS:
                    shown.set_viewport_size({"width": width, "height": 900})
                    assert problems(shown) == [], (kind, width)
                shown.set_viewport_size({"width": PAPER, "height": 900})
                shown.emulate_media(media="print")
                assert problems(shown) == [], (kind, "printed")
