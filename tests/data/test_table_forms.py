"""Tables as other programs write them, and the cells that are no numbers."""

import gzip
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from ssmith.core.errors import DataError
from ssmith.data import keys_of, load_data, load_text

HEADER = ["sequence", "label", "time", "v"]
ROWS = [(f"s{i}", "ab"[i % 2], t, 1.5 * t + i) for i in range(12) for t in (2, 0, 1)]


def table(path, *, by=",", point=".", rows=ROWS, header=HEADER):
    said = [by.join(header), *(by.join(str(item).replace(".", point) for item in r) for r in rows)]
    path.write_text("\n".join(said) + "\n")
    return path


@pytest.mark.parametrize("by, point", [(";", "."), (";", ","), ("\t", "."), ("\t", ",")])
def test_what_separates_is_seen_and_said(tmp_path, by, point):
    wanted = load_data(table(tmp_path / "a.csv"))
    found = load_data(table(tmp_path / "b.csv", by=by, point=point))
    assert found.sha256 == wanted.sha256
    assert found.details["separated_by"] == by
    assert "separated_by" not in wanted.details


def test_packed_tables_and_times_in_words_are_read(tmp_path):
    wanted = load_data(table(tmp_path / "a.csv"))
    with gzip.open(tmp_path / "a.csv.gz", "wb") as stream:
        stream.write((tmp_path / "a.csv").read_bytes())
    assert load_data(tmp_path / "a.csv.gz").sha256 == wanted.sha256
    for zone in (None, UTC):
        rows = [
            (*r[:2], datetime(2026, 1, 2, 3, r[2], tzinfo=zone).isoformat(), r[3]) for r in ROWS
        ]
        assert load_data(table(tmp_path / "b.csv", rows=rows)).sha256 == wanted.sha256


@pytest.mark.parametrize("cell", ["1_000", "0x10", "1,5", "one", "1.5.2", ""])
def test_a_cell_that_is_no_number_is_named(tmp_path, cell):
    rows = [*ROWS[:7], (*ROWS[7][:3], f'"{cell}"'), *ROWS[8:]]
    (tmp_path / "a.csv").write_text("")
    text = table(tmp_path / "a.csv", rows=rows).read_text()
    # Blank lines count among the rows that a user sees.
    (tmp_path / "a.csv").write_text(text.replace("\n", "\n\n", 1))
    with pytest.raises(DataError, match=r"a\.csv row 10, column 'v'"):
        load_data(tmp_path / "a.csv")


@pytest.mark.parametrize("cell", ["+1.5", " 1.5 ", "1.5e0", '"1.5"'])
def test_odd_spellings_of_a_number_are_numbers(tmp_path, cell):
    rows = [(*ROWS[0][:3], cell), *ROWS[1:]]
    data = load_data(table(tmp_path / "a.csv", rows=rows))
    values = torch.cat([part.x.flatten() for part in data.splits.values()])
    assert values.sum().item() == pytest.approx(sum(r[3] for r in ROWS[1:]) + 1.5)


def test_underscores_make_a_label_a_name(tmp_path):
    rows = [(r[0], ("1_0", "2_0")[r[1] == "b"], *r[2:]) for r in ROWS]
    assert load_data(table(tmp_path / "a.csv", rows=rows)).classes == ("1_0", "2_0")


def test_marks_of_gaps_times_and_swapped_axes_are_told(tmp_path):
    rows = [(*r[:2], 1_700_000_000 + 60 * n, -9999 if r[2] == 1 else r[3])
            for n, r in enumerate(ROWS)]  # fmt: skip
    header = ["sequence", "label", "stamp", "v"]
    found = load_data(table(tmp_path / "a.csv", rows=rows, header=header)).details["suspicions"]
    assert len(found) == 2
    assert found[0].startswith("channel 'stamp' lies between 17000")
    assert found[1].startswith("channel 'v' is -9999 at 12 steps")
    assert load_data(table(tmp_path / "b.csv")).details["suspicions"] == []
    np.savez(tmp_path / "c.npz", x=np.random.default_rng(0).normal(size=(40, 3, 500)),
             y=np.arange(40) % 2)  # fmt: skip
    (said,) = load_data(tmp_path / "c.npz").details["suspicions"]
    assert said.startswith("500 channels over 3 steps")


TS = """@problemName walk
@timeStamps false
@classLabel true a b
@data
"""


def test_the_archive_format_is_series_and_no_text(tmp_path):
    body = "\n".join(f"{i},2,3:4,5,{i}:{'ab'[i % 2]}" for i in range(20))
    (tmp_path / "walk.ts").write_text(TS + body)
    data = load_data(tmp_path / "walk.ts")
    assert data.classes == ("a", "b")
    assert data.split("train").x.shape[1:] == (3, 2)
    assert keys_of(tmp_path / "walk.ts") == ["x", "y"]
    with pytest.raises(DataError, match=r"series of numbers in the \.ts format"):
        load_text(tmp_path / "walk.ts")
    for wrong, said in (("1,?,3:a", "line 5: a value is missing"), ("1_0,2:a", "line 5"),
                        ("1,2,3:4:a", "channels differ in length")):  # fmt: skip
        (tmp_path / "walk.ts").write_text(TS + wrong)
        with pytest.raises(DataError, match=said):
            load_data(tmp_path / "walk.ts")
    (tmp_path / "app.ts").write_text("@Component\nclass A { x: number = 1 }\n")
    assert load_text(tmp_path / "app.ts").split("all").ids[0] == ord("@")
    assert keys_of(tmp_path / "app.ts") is None
    with pytest.raises(DataError, match="no line @data"):
        load_data(tmp_path / "app.ts")
