"""What is known ahead of a forecast is read at its horizons, from rows after the last measured."""

import numpy as np
import pytest

from ssmith.core.errors import DataError, InputError
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings import new_rows, prepare, prepared_as

HOW = PrepareConfig(
    task="forecasting", time="ts", label=("load",), horizon=(1, 3), known=("price",), window=8
)


def write(path, steps, later=0):
    lines = ["ts,price,load"]
    lines += [f"{t},{10 * t},{t}" for t in range(steps)]
    lines += [f"{t},{10 * t}," for t in range(steps, steps + later)]
    path.write_text("\n".join(lines))
    return path


def test_each_step_reads_what_is_known_at_its_horizons(tmp_path):
    made = prepare(write(tmp_path / "a.csv", 120), HOW)
    assert made.preparation.names == ("price", "load", "price +1", "price +3")
    assert made.preparation.columns == ("price", "load")
    part = made.data.split("train")
    mean, std = (np.array([getattr(item, key) for item in made.preparation.channels])
                 for key in ("mean", "std"))  # fmt: skip
    x = part.x.numpy() * std + mean
    np.testing.assert_allclose(x[..., 2], x[..., 0] + 10, atol=1e-2)
    np.testing.assert_allclose(x[..., 3], x[..., 0] + 30, atol=1e-2)
    y = made.preparation.targets_back(part.y.numpy())
    np.testing.assert_allclose(y, x[:, -1, [1]] + [1, 3], atol=1e-2)
    again = prepared_as(made.preparation, tmp_path / "a.csv")
    assert again.sha256 == made.data.sha256
    # The recipe of the model reads the same columns again.
    assert prepare(tmp_path / "a.csv", made.preparation.config).preparation == made.preparation


def test_rows_that_say_nothing_but_what_is_known_are_ahead(tmp_path):
    made = prepare(write(tmp_path / "a.csv", 120), HOW)
    found = new_rows(made.preparation, write(tmp_path / "b.csv", 30, later=3))
    # The last measured step has its forecast, and no gap was filled.
    assert found.rows.columns["stop"][-1] == "30"
    assert not [item for item in found.findings if item.kind == "gaps"]
    price = made.preparation.channels[3]
    assert float(found.rows.x[-1, -1, 3]) * price.std + price.mean == pytest.approx(320, abs=0.01)
    short = new_rows(made.preparation, write(tmp_path / "c.csv", 30))
    assert short.rows.columns["stop"][-1] == "27"
    with pytest.raises(DataError, match="price for no step 3 steps ahead"):
        new_rows(made.preparation, write(tmp_path / "d.csv", 3))


def test_what_is_no_channel_or_no_forecast_is_refused(tmp_path):
    with pytest.raises(InputError, match="known is price"):
        PrepareConfig(task="regression", known=("price",))
    table = write(tmp_path / "a.csv", 60)
    wrong = PrepareConfig(task="forecasting", label=("load",), known=("cost",), window=8)
    with pytest.raises(DataError, match="'cost'"):
        prepare(table, wrong)
