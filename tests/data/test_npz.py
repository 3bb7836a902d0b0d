from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ssmith.core.errors import DataError, InputError, OutputExistsError
from ssmith.core.sequences import SPLITS
from ssmith.data import load_data, save_npz
from ssmith.data.assemble import assemble
from ssmith.data.labels import check_task
from ssmith.data.listops import ListOps, generate_listops

GIVEN = np.array([name for name in SPLITS for _ in range(10)])


def rows(data):
    """Return all sequences as comparable tuples, whatever their split."""
    return sorted(
        (tuple(x[:n].flatten().tolist()), y)
        for part in data.splits.values()
        for x, n, y in zip(part.x, part.lengths.tolist(), part.y.tolist(), strict=True)
    )


def test_values_arrive_as_they_are(arrays, write):
    data = load_data(write(arrays))
    expected = sorted(
        (tuple(x[:n].flatten().tolist()), "ab".index(y))
        for x, n, y in zip(arrays["x"], arrays["lengths"], arrays["y"], strict=True)
    )
    assert rows(data) == expected
    assert (data.name, data.task, data.classes) == ("mine", "classification", ("a", "b"))
    assert data.details["scaling"] == {"by": "none, as in the file"}


def test_padding_is_cleaned_and_may_be_nan(arrays, write):
    clean = load_data(write(arrays))
    for i, length in enumerate(arrays["lengths"]):
        arrays["x"][i, length:] = np.nan
    assert load_data(write(arrays)).sha256 == clean.sha256


def test_two_axes_are_one_channel(arrays, write):
    arrays["x"] = arrays["x"][..., 0]
    assert load_data(write(arrays)).splits["train"].x.shape[2] == 1


def test_no_lengths_means_all_steps(arrays, write):
    del arrays["lengths"]
    assert load_data(write(arrays)).splits["test"].lengths.unique().tolist() == [7]


def test_given_splits_keep_members_and_order(arrays, write):
    arrays["split"] = GIVEN
    data = load_data(write(arrays))
    assert data.details["split"] == "as in the file"
    for i, name in enumerate(SPLITS):
        assert (
            data.splits[name].lengths.tolist() == arrays["lengths"][10 * i : 10 * i + 10].tolist()
        )


def test_missing_splits_are_named_unless_not_needed(arrays, write):
    arrays["split"] = np.array(["train"] * 20 + ["test"] * 20)
    path = write(arrays)
    with pytest.raises(DataError, match="no sequence in split validation, selection"):
        load_data(path)
    assert set(load_data(path, needs=("test",)).splits) == {"train", "test"}
    with pytest.raises(InputError, match="'valid'"):
        load_data(path, needs=("valid",))


def test_leaks_and_absent_classes_of_given_splits_are_reported(arrays, write):
    arrays["split"] = GIVEN
    arrays["lengths"][:] = 7
    arrays["x"][39] = arrays["x"][0]
    arrays["y"][10:20] = "a"
    details = load_data(write(arrays)).details
    assert details["duplicates_across_splits"] == 1
    assert details["classes_absent"] == {
        "train": [],
        "validation": ["b"],
        "selection": [],
        "test": [],
    }


def test_integer_labels_sort_as_numbers(arrays, write):
    arrays["y"] = np.array([10, 9, -1, 2] * 10)
    assert load_data(write(arrays)).classes == ("-1", "2", "9", "10")


def test_classes_fix_the_order(arrays, write):
    path = write(arrays)
    plain, turned = load_data(path), load_data(path, classes=("b", "c", "a"))
    assert turned.classes == ("b", "c", "a")
    assert {y for _, y in rows(turned)} == {0, 2}
    assert [y for _, y in rows(plain)] == [{2: 0, 0: 1}[y] for _, y in rows(turned)]
    with pytest.raises(DataError, match=r"unknown label.*'b' at sequence 1"):
        load_data(path, classes=("a", "c"))
    with pytest.raises(InputError, match="each class once"):
        load_data(path, classes=("a", "b", "a"))


def test_tokens(write):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, size=(40, 6), dtype=np.int32)
    arrays = {"x": x, "y": np.array([0, 1] * 20), "vocabulary": 8}
    data = load_data(write(arrays))
    assert data.vocabulary == 8
    assert data.splits["train"].x.dtype == torch.int64
    arrays["x"][4, 3] = 8
    with pytest.raises(DataError, match="is 8 at sequence 4, step 3; allowed: 0 to 7"):
        load_data(write(arrays))


def test_padding_of_tokens_is_cleaned_and_may_be_anything(write):
    x = np.arange(240).reshape(40, 6) % 8
    arrays = {"x": x, "y": np.array([0, 1] * 20), "vocabulary": 8, "lengths": np.full(40, 5)}
    arrays["lengths"][::3] = 6
    clean = load_data(write(arrays))
    x[arrays["lengths"] == 5, 5] = -100
    assert load_data(write(arrays)).sha256 == clean.sha256
    assert all(bool((part.x >= 0).all()) for part in clean.splits.values())


def test_real_targets_are_regression(arrays, write):
    arrays["y"] = np.linspace(0, 1, 40)
    data = load_data(write(arrays))
    assert data.task == "regression"
    assert data.splits["train"].y.dtype == torch.float32
    assert data.classes == ()
    assert data.details["target_mean"] == pytest.approx(float(data.splits["train"].y.mean()))


def test_classes_of_a_regression_are_refused(arrays, write):
    arrays["y"] = np.linspace(0, 1, 40)
    with pytest.raises(DataError, match="for regression, but classes are given"):
        load_data(write(arrays), classes=("a", "b"))


def test_task_overrides_what_targets_look_like(arrays, write):
    arrays["y"] = np.array([1.0, 2.0] * 20)
    assert load_data(write(arrays), task="classification").classes == ("1", "2")
    arrays["y"] = np.array([1, 2] * 20)
    assert load_data(write(arrays), task="regression").splits["test"].y.dtype == torch.float32
    arrays["y"] = np.array(["1.5", "x"] * 20)
    with pytest.raises(DataError, match="not a number"):
        load_data(write(arrays), task="regression")
    arrays["y"] = np.array([1.5, 2.0] * 20)
    with pytest.raises(DataError, match="not whole"):
        load_data(write(arrays), task="classification")


@pytest.mark.parametrize("name", ["power", "vowels", "tecator", "listops"])
def test_saved_and_loaded_is_the_same(name, tmp_path):
    if name == "listops":
        counts = {"train": 50, "validation": 20, "selection": 20, "test": 20}
        data = assemble(generate_listops(ListOps(counts=counts), seed=0))
    else:
        data = load_data(f"embedded:{name}")
    path = tmp_path / "set.npz"
    save_npz(data, path)
    again = load_data(path)
    assert again.sha256 == data.sha256
    assert (again.task, again.classes, again.vocabulary) == (
        data.task,
        data.classes,
        data.vocabulary,
    )
    assert [item.name for item in tmp_path.iterdir()] == ["set.npz"]


def test_saving_is_deterministic_and_replaces_only_if_asked(arrays, write, tmp_path):
    data = load_data(write(arrays))
    target = tmp_path / "out.npz"
    save_npz(data, target)
    first = target.read_bytes()
    with pytest.raises(OutputExistsError):
        save_npz(data, target)
    save_npz(data, target, overwrite=True)
    assert target.read_bytes() == first
    with pytest.raises(InputError, match="npz"):
        save_npz(data, tmp_path / "out.csv")


def broken(arrays, **changes):
    return {key: value for key, value in (arrays | changes).items() if value is not None}


X = np.zeros((40, 7, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "x and y"),
        ({"y": None}, "x and y"),
        ({"z": X}, "has arrays lengths, x, y, z"),
        ({"x": np.zeros(40)}, r"x has shape \(40,\)"),
        ({"x": np.zeros((40, 7, 2, 1))}, "x has shape"),
        ({"x": np.zeros((40, 7), int)}, "vocabulary is missing"),
        ({"x": X.astype(complex)}, "complex"),
        ({"x": X.astype(str)}, "real numbers"),
        ({"x": np.zeros((0, 7, 2)), "y": np.zeros(0, int), "lengths": None}, "no sequence"),
        ({"x": np.zeros((40, 7, 0))}, "no channel"),
        ({"x": np.zeros((40, 0, 2)), "lengths": None}, "out of range"),
        ({"vocabulary": 5}, "because vocabulary is given"),
        ({"x": np.zeros((40, 7), int), "vocabulary": 0}, "integer ≥ 1"),
        ({"x": np.zeros((40, 7), int), "vocabulary": 2.5}, "integer ≥ 1"),
        ({"y": np.array(["a", "b"] * 19)}, "y has 38 entries; allowed: 40"),
        ({"y": np.array(["a"] * 40)}, "single class: a"),
        ({"y": np.zeros((40, 2), int)}, r"y has shape \(40, 2\)"),
        ({"y": np.array(1.0)}, r"y has shape \(\)"),
        ({"y": np.array([0.5, np.nan] + [1.0] * 38)}, r"1 target.*sequence 1"),
        ({"y": np.array([b"a", b"b"] * 20)}, "one string or integer"),
        ({"lengths": np.full(39, 3)}, r"lengths has shape \(39,\)"),
        ({"lengths": np.full(40, 8)}, r"40 lengths out of range, the first is 8 at sequence 0"),
        ({"lengths": np.array([1] * 39 + [0])}, "is 0 at sequence 39; allowed: 1 to 7"),
        ({"lengths": np.full(40, 3.0)}, "allowed: integers"),
        ({"split": np.array(["train"] * 39 + ["dev"])}, "sequence 39 is in split 'dev'"),
        ({"split": np.array(["train"] * 39)}, "split has 39 entries"),
        ({"split": np.zeros(40)}, "row of strings"),
        ({"y": np.array([0, 2] * 20), "classes": np.array(["a", "b"])}, "no index into classes"),
        ({"task": 3}, "one string"),
        ({"x": X.astype(object)}, "Python objects"),
    ],
)
def test_faults_are_named(arrays, write, changes, message):
    with pytest.raises(DataError, match=message):
        load_data(write(broken(arrays, **changes)))


def test_unknown_task(arrays, write):
    with pytest.raises(InputError, match="sorting"):
        load_data(write(arrays | {"task": "sorting"}))
    with pytest.raises(InputError, match="sorting"):
        check_task("sorting")


def test_non_finite_values_are_counted_and_placed(arrays, write):
    arrays["lengths"][:] = 7
    arrays["x"] = arrays["x"].astype(np.float64)
    arrays["x"][5, 2, 1] = np.nan
    arrays["x"][5, 3, 0] = -np.inf
    # Finite in double precision, infinite in single.
    arrays["x"][9, 0, 0] = 1e300
    message = r"3 values.*\(1 NaN, 2 infinite\), the first at sequence 5, step 2, channel 1"
    with pytest.raises(DataError, match=message):
        load_data(write(arrays))


class Trap:
    """Unpickling this would leave a mark."""

    def __reduce__(self):
        return (open, ("trapped", "w"))


def test_pickles_are_refused_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    member = np.array([Trap()], dtype=object)
    np.savez("objects.npz", x=member, y=member)
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="Python objects"):
        load_data("objects.npz")
    with pytest.raises(DataError, match="is not a"):
        load_data("plain.npz")
    assert not (tmp_path / "trapped").exists()


def test_broken_files(tmp_path, arrays, write):
    whole = write(arrays).read_bytes()
    middle = len(whole) // 3
    cases = {
        "empty.npz": b"",
        "noise.npz": b"this is text",
        "cut.npz": whole[:-100],
        "flipped.npz": whole[:middle]
        + bytes(255 - b for b in whole[middle : middle + 8])
        + whole[middle + 8 :],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            load_data(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "foreign.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="no array"):
        load_data(tmp_path / "foreign.npz")


def test_wrong_paths(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        load_data(tmp_path / "absent.npz")
    with pytest.raises(InputError, match=r"\.npz, \.csv, .*\.jsonl.*\.parquet"):
        load_data(tmp_path / "data.hdf5")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        load_data(tmp_path / "folder.csv")
    with pytest.raises(InputError, match=r"embedded:NAME.*did you mean embedded:digits\?$"):
        load_data("digits")


@pytest.mark.parametrize("spec", ["notes.txt", "stdlib:", "ids.npy"])
def test_text_is_no_data_of_sequences(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("Some words.")
    with pytest.raises(InputError, match=r"is text, .*next: .* give the text to a language model"):
        load_data(spec)


def test_a_misspelt_file_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("waves.npz").touch()
    for wrong in ("wavse.npz", "waves.nzp"):
        with pytest.raises(InputError, match=r"next: did you mean 'waves\.npz'\?$"):
            load_data(wrong)


def test_bad_seed(arrays, write):
    with pytest.raises(InputError, match="seed"):
        load_data(write(arrays), seed=-1)
