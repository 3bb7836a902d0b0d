"""Synthetic receipts: accepted, refused, nearly empty, with a two-axis grid; and made ones."""

import json
import math
import random

import pytest
import torch

from helpers.lines import relaxed
from helpers.receipts import receipt_of
from helpers.toy import tiny_data, tiny_model
from ssmith import api
from ssmith.cli.main import main
from ssmith.core.receipt import Receipt
from ssmith.data import save_npz
from ssmith.release.adding import keep
from ssmith.release.begin import init
from ssmith.release.opening import opened
from ssmith.trials.follow import follow
from ssmith.trials.live import LiveConfig

METHODS = {
    "LAST": 0.78,
    "AIRE": 0.74,
    "HankelRefit": 0.70,
    "Balanced": 0.66,
    "Magnitude": 0.45,
    "Uniform": 0.38,
    "Random": 0.22,
}
RATIOS = [round(0.1 * step, 1) for step in range(1, 10)] + [0.95]
VERSIONS = {
    "python": "3.11.9",
    "machine": "AMD EPYC 9454 (x86_64, Linux)",
    "ssmith": "0.1.0",
    "torch": "2.13.0",
    "numpy": "2.3.1",
    "safetensors": "0.6.2",
}


def curve(count=360, dense=0.983, floor=0.1, chosen=("LAST", 0.33)):
    methods = {}
    for name, knee in METHODS.items():
        points = []
        for ratio in sorted([*RATIOS, chosen[1]]):
            drop = (dense - floor) / (1 + math.exp(-(ratio - knee) / 0.06))
            value = round((dense - drop) * count) / count
            half = 1.96 * math.sqrt(value * (1 - value) / count) + 0.003
            points.append(
                {
                    "sparsity": ratio,
                    "removed": round(ratio - 0.002, 4),
                    "value": value,
                    "low": max(value - half, 0.0),
                    "high": min(value + half, 1.0),
                }
            )
        methods[name] = points
    return {
        "metric": "accuracy",
        "higher_is_better": True,
        "split": "selection",
        "count": count,
        "counted": "sequences",
        "dense": {
            "sparsity": 0.0,
            "removed": 0.0,
            "value": dense,
            "low": dense - 0.014,
            "high": dense + 0.009,
        },
        "tolerance": 0.005,
        "method": chosen[0].lower(),
        "chosen": chosen[0],
        "point": next(item for item in methods[chosen[0]] if item["sparsity"] == chosen[1]),
        "methods": methods,
    }


def layers(number=4, grid=(64,), fraction=0.332, name="layers.{}.seq"):
    draw = random.Random(7)
    size = math.prod(grid)
    scores = [
        sorted(math.exp(draw.gauss(-4 - layer, 2.2)) for _ in range(size))
        for layer in range(number)
    ]
    for row in scores:
        draw.shuffle(row)
    everything = sorted(value for row in scores for value in row)
    threshold = everything[int(fraction * len(everything))]
    return [
        {
            "name": name.format(index),
            "grid": list(grid),
            "before": size,
            "after": sum(value >= threshold for value in row),
            "scores": row,
            "kept": [value >= threshold for value in row],
        }
        for index, row in enumerate(scores)
    ]


def full(**changes):
    rows = layers()
    content = {
        "action": "pilot",
        "model": {
            "name": "digits-s5",
            "family": "s5",
            "task": "classification",
            "layers": 4,
            "digest_before": "3f" * 32,
            "digest_after": "a9" * 32,
        },
        "method": {
            "criterion": {"name": "LAST", "norm": "l2", "bidirectional": "mean"},
            "budget": {"states": 0.33, "min_per_layer": 1, "ties": "exact"},
            "mode": "shrink",
            "max_loss": 0.005,
            "command": [
                "ssmith",
                "pilot",
                "digits",
                "--max-loss",
                "0.005",
                "--seed",
                "0",
                "--out",
                "demo",
            ],
        },
        "seed": 0,
        "versions": VERSIONS,
        "data": {
            "name": "digits",
            "sha256": "5c" * 32,
            "source": "scikit-learn, load_digits: handwritten digits read as 64 steps",
            "counts": {"train": 1077, "validation": 180, "selection": 180, "test": 360},
            "details": {"scaled": True, "length": 64},
        },
        "removed": {"states": {"before": 256, "after": 171, "fraction": 0.33203125}},
        "quality": {
            "metric": "accuracy",
            "higher_is_better": True,
            "split": "test",
            "count": 360,
            "before": {"value": 0.9833, "low": 0.9641, "high": 0.9923},
            "after": {"value": 0.9806, "low": 0.9605, "high": 0.9906},
            "level": 0.95,
            "interval": "Wilson",
            "difference": {
                "value": -0.0028,
                "low": -0.0111,
                "high": 0.0056,
                "interval": "paired bootstrap, 10000 resamples",
            },
            "p": 1.0,
            "p_test": "McNemar, exact",
            "agreement": {"both_right": 352, "only_before": 2, "only_after": 1, "both_wrong": 5},
            "own": None,
        },
        "speed": {
            "path": "torch, cpu, float32, 2 threads",
            "threads": 2,
            "batch_size": 32,
            "length": 64,
            "repeats": 30,
            "per_batch": {"before": 0.00214, "after": 0.00153},
            "state_space_per_batch": {"before": 0.00131, "after": 0.00072},
            "per_step": {"before": 0.000112, "after": 0.000109},
        },
        "memory": {
            "how": "peak of live tensors in one forward pass",
            "peak_forward_bytes": {"before": 8_912_896, "after": 6_029_312},
            "state_bytes_per_sequence": {"before": 2048, "after": 1368},
        },
        "size": {
            "bytes": {"before": 312_004, "after": 214_390},
            "parameters": {"before": 77_322, "after": 52_846},
        },
        "parity": {
            "dtype": "float64",
            "shrunk_vs_masked": 1.1e-15,
            "step_vs_scan": 3.4e-14,
            "saved_vs_loaded": 0.0,
            "tolerance": 1e-10,
            "passed": True,
            "why_null": {},
        },
        "saving": {
            "price_per_hour": 0.096,
            "currency": "EUR",
            "sequences_per_day": 50_000_000,
            "hours_per_month": {"before": 27.9, "after": 19.9},
            "cost_per_month": {"before": 2.68, "after": 1.91},
            "saved_per_month": 0.77,
            "assumptions": [
                "the machine is billed per hour and is used fully",
                "sequences arrive in batches of 32",
                "measured on this machine, not on the target",
            ],
        },
        "verdict": {
            "accepted": True,
            "headline": "A third of the states can go: the model is 31 % smaller and 1.4× faster, "
            "and no loss of accuracy was found.",
            "reasons": [
                {
                    "gate": "quality",
                    "passed": True,
                    "text": "accuracy changed by −0.3 points; the interval's lower end, −1.1 "
                    "points, is within the tolerated loss of 1.5 points",
                },
                {"gate": "gain", "passed": True, "text": "the file is 31.3 % smaller"},
                {"gate": "parity", "passed": True, "text": "all paths agree within 1e-10"},
            ],
        },
        "findings": [
            {
                "layer": "layers.2.seq",
                "kind": "protected",
                "message": "an unstable mode was kept because it cannot be ranked",
                "units": [12, 40],
            }
        ],
        "details": {"curve": curve(), "layers": rows},
    }
    return receipt_of(**(content | changes))


@pytest.fixture
def accepted():
    return full()


@pytest.fixture
def refused():
    base = full()
    return full(
        model=base.as_dict()["model"]
        | {
            "name": "lake-level-forecast-hourly-production-2026-northern-stations",
            "task": "regression",
            "layers": 12,
        },
        data=base.as_dict()["data"] | {"name": "lake levels", "source": "own files"},
        removed={"states": {"before": 1152, "after": 692, "fraction": 0.3993}},
        quality={
            "metric": "RMSE",
            "higher_is_better": False,
            "split": "test",
            "count": 1200,
            "before": {"value": 0.2314, "low": 0.2251, "high": 0.2377},
            "after": {"value": 0.2618, "low": 0.2544, "high": 0.2699},
            "level": 0.95,
            "interval": "bootstrap, 10000 resamples",
            "difference": {
                "value": 0.0304,
                "low": 0.0261,
                "high": 0.0349,
                "interval": "paired bootstrap, 10000 resamples",
            },
            "p": 0.0002,
            "p_test": "paired permutation",
            "own": {
                "name": "missed floods",
                "before": 3.0,
                "after": 7.0,
                "difference": {"value": 4.0, "low": 1.0, "high": 8.0},
            },
        },
        speed=base.as_dict()["speed"]
        | {"per_step": {"before": None, "after": None, "why": "bidirectional"}},
        parity=base.as_dict()["parity"]
        | {"step_vs_scan": None, "why_null": {"step_vs_scan": "bidirectional"}, "passed": False},
        size={
            "bytes": {"before": 312_004, "after": 308_390},
            "parameters": {"before": 77_322, "after": 75_846},
        },
        verdict={
            "accepted": False,
            "headline": "Not shipped: the error rises by more than was allowed.",
            "reasons": [
                {
                    "gate": "quality",
                    "passed": False,
                    "text": "RMSE rose by 0.0304; 0.005 was allowed",
                },
                {"gate": "gain", "passed": False, "text": "no gain: the file is 1.2 % smaller"},
                {"gate": "parity", "passed": None, "text": "not all paths could be compared"},
            ],
        },
        findings=[],
        saving={},
        details={
            "curve": _mirrored(curve(chosen=("AIRE", 0.7))),
            "layers": layers(
                12, (96,), 0.4, "encoder.stages.{}.blocks.residual_branch.state_space"
            ),
        },
    )


def _mirrored(content):
    """Turn an accuracy curve into an error curve."""

    def turn(point):
        turned = {"value": 1.2143 - point["value"]}
        turned |= {"low": 1.2143 - point["high"], "high": 1.2143 - point["low"]}
        return point | turned

    methods = {name: list(map(turn, points)) for name, points in content["methods"].items()}
    return content | {
        "metric": "RMSE",
        "higher_is_better": False,
        "dense": turn(content["dense"]),
        "point": turn(content["point"]),
        "methods": methods,
    }


@pytest.fixture
def grid():
    rows = layers(2, (64, 32), 0.5)
    before, after = (sum(row[key] for row in rows) for key in ("before", "after"))
    return full(
        model=full().as_dict()["model"] | {"name": "strokes-s4d", "family": "s4d", "layers": 2},
        removed={"states": {"before": before, "after": after, "fraction": 0.5}},
        details={"curve": curve(), "layers": rows},
    )


@pytest.fixture
def empty():
    return receipt_of(
        action="pilot", model={"name": "untitled"}, method={}, seed=None, versions=VERSIONS
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A receipt of every kind, as the commands write them."""
    place = tmp_path_factory.mktemp("made")
    api.save(tiny_model(seed=2), place / "old")
    api.save(tiny_model(seed=1), place / "new")
    save_npz(tiny_data(), place / "data.npz")
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(12, 5, 2, generator=draw).tolist()
    rows = [{"x": item, "y": "abc"[k % 3], "m": k % 4} for k, item in enumerate(x)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data, fast = ("--data", place / "data.npz"), ("--speed-seconds", "0.01")
    tune = ("--method", "parameters:D", "--steps", "4", *data)
    pilot = ("--at", "0.5", "--baselines", "random", "--refine", "0", "--max-loss", "0.9")
    commands = {
        "prune": ("prune", place / "old", "--cut", "state=0.5", "--method", "last"),
        "tune": ("tune", place / "old", *tune),
        "merge": ("merge", place / "tune"),
        "compare": ("compare", place / "old", place / "new", *data, *fast),
        "audit": ("audit", place / "old", place / "new", *data),
        "canary": ("canary", place / "old", "--requests", "6"),
        "pilot": ("pilot", place / "old", *data, *pilot, *fast),
    }
    for kind, words in commands.items():
        assert main([str(item) for item in (*words, "--out", place / kind, "--quiet")]) in (0, 1)
    found = {kind: Receipt.load(place / kind / "receipt.json") for kind in commands}
    for mode, unit in (("shadow", None), ("ab", "m")):
        config = LiveConfig(mode=mode, unit=unit, tolerance=0.3)
        names = (str(place / "old"), str(place / "new"))
        found[mode], _ = follow(names, str(place / "rows.jsonl"), place / mode, config)
    line = init(place / "line", relaxed())
    version = keep(line, opened(place / "old"))
    assert main(["release", "parity", str(line.path), "newest", "--quiet"]) == 0
    found["parity"] = line.version(version.digest).kept(line.entries()[-1].receipts[0])
    return found
