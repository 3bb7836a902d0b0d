"""A folder of tables: recordings of the same columns, or rates that are aligned by time."""

import numpy as np
import pytest

from ssmith.core.errors import DataError
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings import prepare, read
from ssmith.recordings.fill import filled


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))


def test_each_file_is_a_recording_and_its_folder_the_label(tmp_path):
    draw = np.random.default_rng(0)
    for label in ("good", "bad"):
        for number in range(6):
            rows = enumerate(draw.normal(size=10).round(3))
            write(tmp_path / label / f"{number}.csv", "time,x", rows)
    found, config = read(tmp_path, PrepareConfig(task="classification"))
    assert found.names[0] == "bad/0.csv" and len(found.names) == 12
    assert found.channels == ("x",) and found.lengths == [10] * 12
    assert config.label == ("label",) and config.sequence == "sequence"
    made = prepare(tmp_path, PrepareConfig(task="classification"))
    assert made.data.classes == ("bad", "good")


def test_rates_are_aligned_by_time_and_the_slow_one_is_held(tmp_path):
    write(tmp_path / "fast.csv", "time,vibration", [(t, 10 + t) for t in range(8)])
    write(tmp_path / "slow.csv", "time,heat", [(0, 5), (4, 6)])
    config = PrepareConfig(time="time", task="forecasting", label=("vibration",), window=2)
    found, _ = read(tmp_path, config)
    assert found.names == (tmp_path.name,) and found.channels == ("vibration", "heat")
    heat = found.values[0][:, 1]
    assert np.flatnonzero(np.isfinite(heat)).tolist() == [0, 4]
    assert found.values[0][:, 0].tolist() == [10, 11, 12, 13, 14, 15, 16, 17]
    assert filled(found, config).values[0][:, 1].tolist() == [5, 5, 5, 5, 6, 6, 6, 6]
    write(tmp_path / "other.csv", "when,wet", [(0, 1)])
    with pytest.raises(DataError, match="no column 'time'"):
        read(tmp_path, config)
