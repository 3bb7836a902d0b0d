"""Anomalies: windows as their own targets, and known ones that nothing is learned from."""

import numpy as np
import pytest

from ssmith.core.errors import DataError, InputError
from ssmith.core.preparation import KNOWN, PrepareConfig
from ssmith.recordings import new_rows, prepare


def write(path, steps=200, pumps=1, marks=None, name="fault"):
    draw = np.random.default_rng(0)
    lines = [f"pump,a,b,{name}"]
    for pump in range(pumps):
        for step in range(steps):
            a, b = draw.normal(size=2)
            mark = (marks or {}).get(step, 0)
            lines.append(f"p{pump},{a:.4f},{3 * b + 7:.4f},{mark}")
    path.write_text("\n".join(lines))
    return path


def config(**settings):
    return PrepareConfig(
        **{"task": "anomaly", "sequence": "pump", "label": ("fault",), "window": 8, "stride": 1,
           **settings}
    )  # fmt: skip


def test_a_window_is_its_own_target(tmp_path):
    made = prepare(write(tmp_path / "a.csv"), config(score="reconstruction"))
    part, preparation = made.data.split("train"), made.preparation
    assert preparation.names == ("a", "b")
    assert [item.name for item in preparation.targets[:3]] == ["a -7", "b -7", "a -6"]
    back = preparation.targets_back(part.y.numpy())
    plain = part.x.numpy() * [item.std for item in preparation.channels]
    plain += [item.mean for item in preparation.channels]
    assert np.allclose(back, plain.reshape(len(plain), -1), atol=1e-4)
    assert {*part.lengths.tolist()} == {8}
    # A recording that is shorter than a window has no score, and is answered nevertheless.
    short = new_rows(preparation, write(tmp_path / "short.csv", steps=5))
    assert short.labelled.tolist() == [False] and short.told


@pytest.mark.parametrize("score", ["forecast", "reconstruction"])
def test_no_row_with_a_known_anomaly_is_learned_from(score, tmp_path):
    marks = {50: 1, 190: "true", 60: "normal"}
    source = write(tmp_path / "a.csv", marks=marks)
    made = prepare(source, config(score=score))
    ahead = 0 if score == "reconstruction" else 1
    for name, part in made.data.splits.items():
        starts, stops = (list(map(int, part.columns[key])) for key in ("start", "stop"))
        for start, stop, known in zip(starts, stops, part.columns[KNOWN], strict=True):
            touched = any(start <= mark < stop + ahead for mark in (50, 190))
            told = range(start, stop) if score == "reconstruction" else [stop]
            assert known == str(int(any(mark in told for mark in (50, 190))))
            assert name == "test" or not touched
    assert "1" in made.data.split("test").columns[KNOWN]
    rows = new_rows(made.preparation, source).rows
    assert rows.columns[KNOWN].count("1") == (16 if score == "reconstruction" else 2)


def test_without_marks_nothing_is_known(tmp_path):
    made = prepare(write(tmp_path / "a.csv"), config(label=(), ignore=("fault",)))
    assert KNOWN not in made.data.split("test").columns
    assert made.preparation.names == ("a", "b")


def test_what_cannot_be_reconstructed_is_refused(tmp_path):
    source = write(tmp_path / "a.csv", steps=5000)
    for settings, error, said in (
        ({"window": 2100, "stride": 300}, InputError, "at most 4096 numbers"),
        ({"horizon": (1, 2)}, InputError, "leave --horizon out"),
        ({"task": "forecasting", "label": ("a",)}, InputError, "task anomaly"),
        ({"label": ("a", "fault")}, InputError, "name one"),
    ):
        with pytest.raises(error, match=said):
            prepare(source, config(score="reconstruction", **settings))
    every = dict.fromkeys(range(0, 200, 5), 1)
    with pytest.raises(DataError, match="every row of train has a known anomaly"):
        prepare(write(tmp_path / "c.csv", marks=every), config())
    with pytest.raises(DataError, match="no recording of 8 steps"):
        prepare(write(tmp_path / "b.csv", steps=5, pumps=9), config(score="reconstruction"))
