import numpy as np
import pytest

from ssmith.core.errors import DataError
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings import new_rows, prepare
from ssmith.recordings.audio import BANDS, _at_rate, bands

soundfile = pytest.importorskip("soundfile")


def tone(pitch, rate, seconds=0.3):
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for label, pitch in (("low", 300), ("high", 1500)):
        (tmp_path / "sounds" / label).mkdir(parents=True)
        for place in range(6):
            rate = 16000 if place % 2 else 8000
            wave = tone(pitch * rng.uniform(0.9, 1.1), rate)
            wave = np.stack([wave, wave], 1) if place == 3 else wave
            kind = "PCM_24" if place == 2 else "PCM_16"
            name = f"{place}.{'flac' if place == 4 else 'wav'}"
            soundfile.write(tmp_path / "sounds" / label / name, wave, rate, subtype=kind)
    return tmp_path / "sounds"


def test_a_tone_has_its_energy_in_the_band_around_it():
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), BANDS + 2) / 2595) - 1)
    for pitch in (300, 1000, 2500):
        found = bands(tone(pitch, 8000), 8000)
        assert found.shape == (1 + (2400 - 200) // 80, BANDS)
        place = int(np.median(found.argmax(1)))
        assert edges[place] < pitch < edges[place + 2]


def test_a_wave_at_another_rate_is_the_same_tone_and_holds_nothing_else():
    both = tone(500, 16000, 0.2) + tone(6000, 16000, 0.2)
    np.testing.assert_allclose(_at_rate(both, 16000, 8000), tone(500, 8000, 0.2), atol=1e-9)


def test_folders_are_labels_and_files_recordings(folder):
    made = prepare(folder, PrepareConfig())
    data = made.data
    assert data.classes == ("high", "low") and made.preparation.config.rate == 8000
    assert sum(len(part) for part in data.splits.values()) == 12
    assert data.split("train").x.shape[2] == BANDS
    named = zip(data.split("test").columns["name"], data.split("test").y, strict=True)
    assert all(name.startswith(data.classes[int(y)]) for name, y in named)


def test_the_topmost_folder_is_the_label_and_a_split_may_stand_above_or_below(folder, tmp_path):
    for split, kept in (("train", "0145"), ("validation", "23")):
        for path in sorted(folder.rglob("*.*")):
            if path.stem in kept:
                label = path.parent.name
                inside = (label, split) if label == "low" else (split, label)
                place = tmp_path.joinpath("deep", *inside, f"day {path.stem}", path.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.rename(place)
    data = prepare(tmp_path / "deep", PrepareConfig(task="classification")).data
    assert data.classes == ("high", "low")
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 8, "validation": 4}


def test_a_folder_without_labels_is_new_data_of_the_same_kind(folder, tmp_path):
    preparation = prepare(folder, PrepareConfig()).preparation
    bare = tmp_path / "bare"
    bare.mkdir()
    (folder / "low" / "1.wav").rename(bare / "one.wav")
    found = new_rows(preparation, bare)
    assert found.rows.columns["name"] == ("one.wav",) and not found.labelled.any()
    # The same seconds, whatever its rate is.
    assert found.rows.x.shape[1:] == (28, BANDS)
    assert not found.findings


def test_a_table_may_say_labels_groups_and_splits(folder):
    lines = ["file,label,group"]
    lines += [f"{label}/{place}.{'flac' if place == 4 else 'wav'},{label},speaker{place % 4}"
              for label in ("low", "high") for place in range(6)]  # fmt: skip
    (folder / "labels.csv").write_text("\n".join(lines))
    data = prepare(folder, PrepareConfig()).data
    groups = [set(part.columns["group"]) for part in data.splits.values()]
    assert sum(map(len, groups)) == 4
    (folder / "labels.csv").write_text("file,label\n../x.wav,low\n")
    with pytest.raises(DataError, match=r"row 2 names '\.\./x\.wav'"):
        prepare(folder, PrepareConfig())


def test_a_file_that_is_no_sound_is_named(folder):
    (folder / "low" / "7.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(DataError, match=r"cannot read .*7\.wav"):
        prepare(folder, PrepareConfig())
