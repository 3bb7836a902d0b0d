"""One set of series in every format is the same rows."""

from importlib import resources

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ssmith.core.errors import DataError
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings import new_rows, prepare
from ssmith.recordings.arff import read_arff
from ssmith.recordings.images import steps_of_image
from ssmith.recordings.read import read_new

CONFIG = PrepareConfig(task="classification")


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(24, 9, 1)), 4)
    return x, ["ab"[place % 2] for place in range(24)]


def written(path, x, y):
    """Write series in the format of a suffix."""
    kind = path.suffix
    cells = [",".join(map(str, row[:, 0])) for row in x]
    if kind == ".npz":
        np.savez(path, x=x, y=np.array(y))
    elif kind == ".mat":
        savemat(path, {"x": x, "y": np.array(y, dtype=object)})
    elif kind == ".arff":
        head = [f"@attribute t{step} numeric" for step in range(9)]
        rows = [f"{row},{label}" for row, label in zip(cells, y, strict=True)]
        text = ["@relation r", *head, "@attribute target {a,b}", "@data", "% note", *rows]
        path.write_text("\n".join(text))
    elif kind == ".ts":
        rows = [f"{row}:{label}" for row, label in zip(cells, y, strict=True)]
        path.write_text("\n".join(["@problemName r", "@classLabel true a b", "@data", *rows]))
    elif kind == ".jsonl":
        rows = [f'{{"x": {row[:, 0].tolist()}, "y": "{label}"}}'
                for row, label in zip(x, y, strict=True)]  # fmt: skip
        path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize("suffix", [".mat", ".arff", ".ts", ".jsonl"])
def test_formats_agree(series, tmp_path, suffix):
    want = prepare(written(tmp_path / "f.npz", *series), CONFIG)
    made = prepare(written(tmp_path / f"f{suffix}", *series), CONFIG)
    for name, part in want.data.splits.items():
        np.testing.assert_allclose(made.data.split(name).x, part.x, rtol=2e-6, atol=2e-6)
        assert made.data.split(name).y.tolist() == part.y.tolist()
    again = new_rows(made.preparation, tmp_path / f"f{suffix}")
    assert len(again.rows) == 24 and bool(again.labelled.all())


def test_arff_of_several_channels_gaps_and_unequal_lengths(tmp_path):
    path = tmp_path / "m.arff"
    head = "@relation r\n@attribute s relational\n@attribute a numeric\n@end s\n"
    path.write_text(
        head + "@attribute class {u,v}\n@data\n'1,2,3\\n4,?,6',u\n'7,8\\n9,10',v\n"
    )  # fmt: skip
    found = read_arff(path)
    np.testing.assert_array_equal(found.values[0], [[1, 4], [2, np.nan], [3, 6]])
    np.testing.assert_array_equal(found.values[1], [[7, 9], [8, 10]])
    assert [item[0, 0] for item in found.labels] == ["u", "v"]


@pytest.mark.parametrize("name", ["GunPoint", "JapaneseVowels"])
def test_archives_that_others_made_are_read(name):
    folder = resources.files("sktime.datasets.data") / name
    path = next(item for item in folder.iterdir() if item.name == f"{name}_TRAIN.ts")
    made = prepare(path, CONFIG)
    assert len(made.data.classes) == {"GunPoint": 2, "JapaneseVowels": 9}[name]
    train = made.data.split("train")
    valid = train.x[0, : train.lengths[0]]
    assert valid.isfinite().all() and 0.1 < train.x.std() < 2


def test_a_step_of_an_image_is_a_row_a_pixel_or_a_patch():
    image = np.arange(4 * 6).reshape(4, 6, 1).astype(float)
    assert steps_of_image(image, PrepareConfig()).shape == (4, 6)
    assert steps_of_image(image, PrepareConfig(pixels="pixel"))[:, 0].tolist() == [*range(24)]
    found = steps_of_image(image, PrepareConfig(pixels="patch", patch=2))
    assert found.tolist()[:2] == [[0, 1, 6, 7], [2, 3, 8, 9]] and len(found) == 6


def test_folders_of_images(tmp_path):
    rng = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / label).mkdir()
        for place in range(5):
            values = (level + rng.integers(0, 30, (6, 5))).astype(np.uint8)
            Image.fromarray(values).save(tmp_path / label / f"{place}.png")
    made = prepare(tmp_path, PrepareConfig(scale="none"))
    part = made.data.split("train")
    assert part.x.shape[1:] == (6, 5) and made.data.classes == ("dark", "light")
    assert ((part.x.mean((1, 2)) > 0.5).long() == part.y).all()
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "dark" / "9.png")
    with pytest.raises(DataError, match=r"9\.png has 4 × 4 pixels.*5 × 6"):
        prepare(tmp_path, PrepareConfig())
    (tmp_path / "dark" / "9.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read .*9\.png"):
        prepare(tmp_path, PrepareConfig())


def test_tokens_are_no_measurements(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.zeros((8, 4), dtype=int), y=[0, 1] * 4, vocabulary=3)
    with pytest.raises(DataError, match="tokens, not measurements"):
        prepare(tmp_path / "t.npz", CONFIG)


TIMED = "@timeStamps true\n@univariate false\n@classLabel true u v\n@data\n"


def test_ts_with_time_stamps_of_its_channels(tmp_path):
    path = tmp_path / "timed.ts"
    path.write_text(
        TIMED + "(0,1),(1,2),(4,?),(6,3):(1,5),(6,7):u\n(2,1.5):(2,-2),(3,8):v\n"
    )  # fmt: skip
    found = read_new(path, PrepareConfig())
    assert [item.tolist() for item in found.times] == [[0, 1, 4, 6], [2, 3]]
    np.testing.assert_array_equal(found.values[0], [[1, np.nan], [2, 5], [np.nan, np.nan], [3, 7]])
    np.testing.assert_array_equal(found.values[1], [[1.5, -2], [np.nan, 8]])
    assert [item[0, 0] for item in found.labels] == ["u", "v"]
    path.write_text(TIMED.replace("true u v", "false") + "(2026-01-31 12:00:00,1):(2026-01-31,2)")
    found = read_new(path, PrepareConfig())
    assert found.labels is None and found.times[0].tolist() == [1769817600.0, 1769860800.0]
    for line, said in (
        ("(0,1),(1,x):(0,1):u", "line 5: could not convert"),
        ("(0,1),(1,2:(0,1):u", "allowed: .time, value."),
        ("(0,1),(0,2):(0,1):u", "two values of a channel at one time"),
        ("(0,1):(0,1):u\n(0,1):u", "line 6 has 1 channels"),
    ):
        path.write_text(TIMED + line)
        with pytest.raises(DataError, match=said):
            read_new(path, PrepareConfig())


def test_uneven_time_stamps_are_read_as_widths_of_steps(tmp_path):
    draw = np.random.default_rng(0)
    lines = []
    for place in range(24):
        times = np.cumsum(draw.choice([1, 5], size=20))
        wave = np.sin(times * (1 + place % 2) / 3)
        pairs = ",".join(f"({time},{value:.4f})" for time, value in zip(times, wave, strict=True))
        lines.append(f"{pairs}:{'uv'[place % 2]}")
    path = tmp_path / "timed.ts"
    path.write_text(TIMED.replace("univariate false", "univariate true") + "\n".join(lines))
    made = prepare(path, PrepareConfig(task="classification"))
    assert made.preparation.config.intervals == "measured"
    assert made.preparation.names == ("channel 0", "time since the step before")
    again = new_rows(made.preparation, path)
    assert again.rows.x.shape == (24, 20, 2) and bool(again.labelled.all())


def test_new_ts_without_targets(series, tmp_path):
    path = written(tmp_path / "f.ts", *series)
    made = prepare(path, CONFIG)
    bare = [line.rpartition(":")[0] if ":" in line else line
            for line in path.read_text().splitlines()]  # fmt: skip
    text = "\n".join(bare).replace("@classLabel true", "@classLabel false")
    path.write_text(text)
    found = new_rows(made.preparation, path)
    assert len(found.rows) == 24 and not found.told
