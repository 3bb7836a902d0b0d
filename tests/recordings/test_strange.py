"""New data that has all channels, and yet is not what the model was trained on: each is told."""

import wave

import numpy as np
import pytest

from helpers.command import ended
from recordings import plant
from ssmith.core.errors import DataError
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings import new_rows, prepare, prepared_as
from ssmith.recordings.parts import parts_of_rows

HOW = {"task": "classification", "sequence": "machine", "time": "ts", "label": ("state",)}
UNITS = ("", "s", "K", "V", "", "")


def table(path, change=lambda row: row, names=plant.NAMES, units=UNITS, every=1):
    rows = [change(row) for row in plant.rows(machines=6)[::every]]
    return plant.write(path, [units, *rows], names=names)


@pytest.fixture
def preparation(tmp_path):
    return prepare(table(tmp_path / "old.csv"), PrepareConfig(**HOW, group="plant")).preparation


def kinds(found):
    return {item.kind: item.message for item in found.findings}


def test_what_is_as_before_is_not_told(preparation, tmp_path):
    assert not kinds(new_rows(preparation, table(tmp_path / "new.csv")))


def test_other_units_are_told(preparation, tmp_path):
    path = table(tmp_path / "new.csv", units=("", "s", "degC", "V", "", ""))
    assert "(temp in degC, not K)" in kinds(new_rows(preparation, path))["other-units"]


def test_another_step_is_told_also_where_rows_are_measured(preparation, tmp_path):
    path = table(tmp_path / "new.csv", every=2)
    said = kinds(new_rows(preparation, path))["other-steps"]
    assert "steps last 2, and training saw steps of 1" in said and "--step 1" in said
    assert said in prepared_as(preparation, path).details["suspicions"]
    even = prepare(tmp_path / "old.csv", PrepareConfig(**HOW, group="plant", step=1.0))
    assert "other-steps" not in kinds(new_rows(even.preparation, path))


def test_a_label_by_another_name_is_asked_for(preparation, tmp_path):
    names = ("machine", "ts", "temp", "volt", "State", "plant")
    said = kinds(new_rows(preparation, table(tmp_path / "new.csv", names=names)))
    assert said["label-missing"].endswith("nothing is scored; did you mean 'State'?")
    names = ("machine", "ts", "temp", "volt", "remark", "plant")
    assert not kinds(new_rows(preparation, table(tmp_path / "none.csv", names=names)))


def test_labels_by_other_names_are_told(preparation, tmp_path):
    path = table(tmp_path / "new.csv", lambda row: (*row[:4], row[4].replace("fine", "ok"), row[5]))
    found = new_rows(preparation, path)
    assert (
        "labels that the model does not know ('ok'): it knows failing, fine"
        in kinds(found)["unknown-labels"]
    )
    assert 0 < int(found.labelled.sum()) < len(found.rows)


def test_clocks_with_and_without_a_zone_are_not_mixed(tmp_path):
    def stamp(row):
        zone = "Z" if row[1] % 2 else ""
        return (row[0], f"2026-01-01T00:{row[1] // 60:02}:{row[1] % 60:02}{zone}", *row[2:])

    path = table(tmp_path / "zones.csv", stamp)
    with pytest.raises(
        DataError, match=r"row 3, column 'ts': '2026-01-01T00:00:00' has no time zone"
    ):
        prepare(path, PrepareConfig(**HOW, group="plant"))
    (plain := tmp_path / "plain").mkdir()
    (scratch := tmp_path / "scratch").mkdir()
    made = prepare(table(plain / "old.csv"), PrepareConfig(**HOW, group="plant")).preparation
    with pytest.raises(DataError, match="has no time zone, and other rows have one"):
        parts_of_rows(made, path, rows=8, scratch=scratch)


def sounds(folder, rate, count=5):
    draw = np.random.default_rng(0)
    for label, pitch in (("low", 200), ("high", 700)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            times = np.arange(rate // 4) / rate
            tone = 9000 * np.sin(6.283 * pitch * times) + 90 * draw.normal(size=len(times))
            with wave.open(str(folder / label / f"{number}.wav"), "wb") as sound:
                sound.setnchannels(1)
                sound.setsampwidth(2)
                sound.setframerate(rate)
                sound.writeframes(tone.astype("<i2").tobytes())
    return folder


def test_sound_of_a_lower_rate_is_told_and_of_a_higher_one_is_brought_down(tmp_path):
    made = prepare(sounds(tmp_path / "old", 8000), PrepareConfig(task="classification"))
    assert "lower-rate" not in kinds(new_rows(made.preparation, sounds(tmp_path / "high", 16000)))
    said = kinds(new_rows(made.preparation, sounds(tmp_path / "few", 4000)))["lower-rate"]
    assert "4,000 samples a second, and training heard 8,000: what lies above 2,000 Hz" in said


def test_predict_warns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "old.csv")
    table(tmp_path / "new.csv", every=2)
    given = ("--sequence", "machine", "--time", "ts", "--label", "state", "--group", "plant")
    ended(capsys, "train", "--data", "old.csv", *given, "--task", "classification", "--epochs", "1",
          "--lr", "0.01", "--width", "4", "--states", "4", "--out", "model")  # fmt: skip
    done = ended(capsys, "predict", "model", "--data", "new.csv", "--out", "said.csv")
    assert done.code == 0 and "warning: steps last 2" in done.out + done.err
