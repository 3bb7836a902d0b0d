"""What goes silently wrong with other people's files is said, with rows and columns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recordings import plant
from ssmith.core.preparation import PrepareConfig
from ssmith.core.sequences import Sequences, shared_rows
from ssmith.recordings import prepare
from ssmith.recordings.copies import near_copies
from ssmith.recordings.plausible import plausibility
from ssmith.recordings.recording import Recordings


def recordings(values, **more):
    made = [np.asarray(item, dtype=np.float64) for item in values]
    return Recordings(
        path=more.pop("path", Path("f.csv")),
        names=tuple(f"r{place}" for place in range(len(made))),
        channels=tuple("abcdefgh"[: made[0].shape[1]]) if made[0].shape[1] < 9
        else tuple(map(str, range(made[0].shape[1]))),
        values=tuple(made), **more,
    )  # fmt: skip


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def kinds(made):
    return [item.kind for item in plausibility(made)]


def test_noise_is_plausible():
    assert not kinds(recordings([noise(200, 3), noise(100, 3, seed=1)]))


def test_a_mark_for_a_gap_is_found_with_its_place():
    values = noise(2, 200, 2)
    values[1, 7, 1] = -9999
    found = plausibility(recordings(values, rows=tuple(np.arange(200) + r for r in (2, 202))))
    assert [item.kind for item in found] == ["sentinel"]
    assert "channel 'b' is -9999 at 1 step" in found[0].message
    assert found[0].message.endswith("the first at 'r1', step 7 (row 209)")


def test_a_channel_that_says_nothing_or_too_much():
    values = noise(200, 4)
    values[:, 1] = 3
    values[:, 2] = values[:, 0]
    labels = np.where(np.arange(200) // 10 % 2, "on", "off")[:, None]
    values[:, 3] = (labels[:, 0] == "on") * 4.0
    found = plausibility(recordings([values], labels=(labels,), targets=("state",)))
    assert [item.kind for item in found] == [
        "constant", "repeated-channel", "label-copy", "rare-labels",
    ]  # fmt: skip
    assert "'c' is a copy of 'a'" in found[1].message
    assert "'d' says the label 'state' itself" in found[2].message
    # What is forecast is a channel as well, and says nothing but itself.
    ahead = recordings([noise(200, 2)], labels=(noise(200, 2)[:, :1].astype(str),), targets=("a",))
    assert not kinds(ahead)


def test_a_sensor_that_stands_still_or_is_cut_off():
    values = noise(300, 2)
    values[100:180, 0] = 0.5
    values[:, 1] = values[:, 1].clip(-1, 1)
    found = plausibility(recordings([values]))
    assert [item.kind for item in found] == ["stuck", "saturated", "saturated"]
    assert "80 steps from 'r0', step 100" in found[0].message
    assert "lowest value -1" in found[1].message and "highest value 1" in found[2].message


def test_jumps_and_uneven_steps():
    even = np.arange(100.0)
    late = np.where(even > 49, even + 30, even)
    found = plausibility(recordings([noise(100, 1)], times=(late,)))
    assert [item.kind for item in found] == ["time-gaps"] and "after 'r0', step 49" in (
        found[0].message
    )
    uneven = np.cumsum(np.random.default_rng(0).uniform(0.5, 2, 100))
    assert kinds(recordings([noise(100, 1)], times=(uneven,))) == ["uneven-steps"]


def test_axes_that_may_be_swapped_and_labels_that_are_rare():
    rows = (np.arange(6) + 2, np.arange(5) + 8)
    assert kinds(recordings([noise(6, 40), noise(5, 40)], rows=rows)) == ["swapped-axes"]
    [found] = plausibility(recordings([noise(6, 40), noise(5, 40)], path=Path("a.npz")))
    assert "40 channels over 6 steps" in found.message and "swap its axes" in found.message
    # Short sounds have as many bands as we give them.
    assert not kinds(recordings([noise(6, 40), noise(5, 40)], path=Path("sounds")))
    values = noise(50, 2)
    values[:, 1] = np.arange(50)
    found = plausibility(recordings([values]))
    assert [item.kind for item in found] == ["counter"] and "'b' counts" in found[0].message
    labels = tuple(np.array([["rare" if place == 0 else "usual"]]) for place in range(43))
    made = recordings([noise(20, 2, seed=place) for place in range(43)], labels=labels,
                      targets=("state",))  # fmt: skip
    found = plausibility(made)
    assert [item.kind for item in found] == ["rare-labels", "imbalance"]
    assert "1:42 ('rare')" in found[1].message


def test_recordings_that_repeat_another_are_counted_and_grave():
    first, second = noise(20, 2), noise(20, 2, seed=1)
    [found] = plausibility(recordings([first, second, first, first]))
    assert found.kind == "copied-recordings" and found.grave
    assert "2 recordings of 4 repeat another one, the first 'r2' of 'r0'" in found.message
    assert not kinds(recordings([first, second]))


def part(x):
    x = torch.as_tensor(np.asarray(x), dtype=torch.float32)
    return Sequences(x=x, lengths=torch.full((len(x),), x.shape[1]), y=torch.zeros(len(x)).long())


def test_rows_that_are_nearly_rows_of_the_training_are_counted():
    train, test = noise(30, 40, 2), noise(20, 40, 2, seed=1)
    assert near_copies({"train": part(train), "test": part(test)}) == {}
    test[:3] = train[5:8] + 0.003 * noise(3, 40, 2, seed=2)
    assert near_copies({"train": part(train), "test": part(test)}) == {"test": 3}
    flat = np.zeros((20, 40, 2))
    assert near_copies({"train": part(np.concatenate([train, flat])), "test": part(flat)}) == {}


def test_copies_of_training_rows_in_the_test_split_are_grave(tmp_path):
    items = [(*row[:5], ("train", "validation", "selection", "test")[int(row[0][1:]) % 4])
             for row in plant.rows()]  # fmt: skip
    config = PrepareConfig(
        task="classification", sequence="machine", time="ts", label=("state",), split="plant",
        window=12,
    )  # fmt: skip
    clean = prepare(plant.write(tmp_path / "clean.csv", items), config)
    assert not shared_rows(clean.data)
    copies = [(f"copy{row[0]}", *row[1:5], "test") for row in items if row[5] == "train"]
    rows = [row for row in items if row[5] != "test"] + copies
    made = prepare(plant.write(tmp_path / "copied.csv", rows), config)
    assert [item.kind for item in shared_rows(made.data)] == ["leak"]
    assert [item.kind for item in made.findings] == ["copied-recordings", "leak"]
    near = [(*row[:2], float(row[2]) + 1e-4, *row[3:]) if row[0].startswith("copy") else row
            for row in rows]  # fmt: skip
    made = prepare(plant.write(tmp_path / "near.csv", near), replace(config))
    assert [item.kind for item in made.findings] == ["leak"]
    assert "nearly the same" in made.findings[0].message


@pytest.mark.parametrize("by", ["time", "group"])
def test_windows_never_reach_from_one_split_into_the_next(tmp_path, by):
    path = plant.write(
        tmp_path / "p.csv", [row[:5] for row in plant.rows(steps=200)], plant.NAMES[:5]
    )
    config = PrepareConfig(task="classification", sequence="machine", time="ts", label=("state",),
                           window=12, stride=1, by=by)  # fmt: skip
    data = prepare(path, config).data
    seen = {}
    for name, rows in data.splits.items():
        for machine, start, stop in zip(*(rows.columns[key] for key in ("name", "start", "stop")),
                                        strict=True):  # fmt: skip
            for step in range(int(start), int(stop)):
                assert seen.setdefault((machine, step), name) == name
    assert {*seen.values()} == {"train", "validation", "selection", "test"}


def test_no_step_is_forecast_in_two_splits(tmp_path):
    path = plant.write(tmp_path / "p.csv", [row[1:4] for row in plant.rows(1, 200)],
                       plant.NAMES[1:4])  # fmt: skip
    config = PrepareConfig(task="forecasting", time="ts", horizon=(1, 3), window=30)
    data = prepare(path, config).data
    seen = {}
    for name, rows in data.splits.items():
        for stop in rows.columns["stop"]:
            for step in (int(stop), int(stop) + 2):
                assert seen.setdefault(step, name) == name
    assert max(seen) == 199 and len(data.split("validation")) == 18
