"""Reports of every kind of receipt in a real browser: nothing is cut off on screens or paper."""

import pytest

from helpers.browser import WIDTHS, browser, opened, problems
from helpers.receipts import changed
from ssmith.report import write_index, write_report
from ssmith.report.kinds import KINDS

PAPER = 696
"""Width of an A4 page between its margins, in CSS pixels."""


@pytest.fixture
def receipts(accepted, refused, grid, made):
    """One of every kind, and more with the longest words that stand in cells."""
    why = "not available: timed alone by `make bench-scan`"
    samples = {"before": [0.0021, 0.0022], "after": [0.0023, 0.0024]}
    unsettled = {"before": 0.00214, "after": 0.00213, "samples": samples}
    speed = accepted.as_dict()["speed"] | {"per_batch": unsettled,
                              "per_step": {"before": None, "after": None, "why": why}}  # fmt: skip
    finding = {
        "layer": "encoder.stages.0.blocks.residual_branch",
        "kind": "duplicates_across_splits",
        "message": "the time of one batch still changed by 20 % or more",
        "units": [1],
    }
    leak = {"text": "request 3 leaked into request 4: " + "a-word-without-a-blank-" * 4}
    leaking = {**made["canary"].as_dict()["details"], "passed": False, "leaks": [leak]}
    return made | {
        "long": changed(accepted, speed=speed, findings=[finding]),
        "refused": refused,
        "grid": grid,
        "leak": changed(made["canary"], details=leaking),
    }


def test_every_report_and_their_list_can_be_read(receipts, tmp_path):
    assert set(KINDS) <= set(receipts)
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
