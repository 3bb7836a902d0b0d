from __future__ import annotations

import sys

import pytest
import torch

from ssmith.core.errors import DataError, InputError, MissingExtraError
from ssmith.core.sequences import SPLITS
from ssmith.data import TASKS, digest_of, load_data
from ssmith.data.digest import sequence_keys
from ssmith.data.pool import valid_steps

FACTS = {
    # name: (channels or None, longest, classes, sequences after duplicates left)
    "digits": (1, 64, 10, 1797),
    "vowels": (12, 29, 9, 640),
    "plaid": (2, 1344, 11, 1069),
    "leaf": (1, 427, 6, 442),
    "power": (1, 24, 2, 1096),
    "listops": (None, 100, 10, 30_000),
    "tecator": (1, 100, 0, 193),
    "covid": (1, 84, 0, 198),
}


@pytest.fixture(scope="module")
def loaded():
    return {name: load_data(f"embedded:{name}") for name in TASKS}


def test_every_task_is_described():
    assert set(TASKS) == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_shapes_and_counts(loaded, name):
    channels, longest, classes, count = FACTS[name]
    data = loaded[name]
    assert tuple(data.splits) == SPLITS
    assert sum(len(part) for part in data.splits.values()) == count
    assert max(part.x.shape[1] for part in data.splits.values()) == longest
    assert len(data.classes) == classes
    assert data.name == name
    for part in data.splits.values():
        assert part.x.shape[1] == int(part.lengths.max())
        if channels is None:
            assert part.x.dtype == torch.int64
        else:
            assert part.x.shape[2] == channels
            assert part.x.dtype == torch.float32
            assert bool(part.x.isfinite().all())
        assert part.y.dtype == (torch.int64 if classes else torch.float32)


@pytest.mark.parametrize("name", FACTS)
def test_splits_are_disjoint(loaded, name):
    keys = [key for part in loaded[name].splits.values() for key in sequence_keys(part)]
    assert len(set(keys)) == len(keys)
    assert loaded[name].details["duplicates_across_splits"] == 0


@pytest.mark.parametrize("name", [name for name in FACTS if FACTS[name][2] and name != "listops"])
def test_splits_are_stratified(loaded, name):
    splits = loaded[name].splits
    classes = FACTS[name][2]
    total = sum(part.y.bincount(minlength=classes) for part in splits.values())
    for split, fraction in {"train": 0.5, "validation": 0.1, "selection": 0.2, "test": 0.2}.items():
        counts = splits[split].y.bincount(minlength=classes)
        assert bool((counts - fraction * total).abs().max() <= 2)
        assert bool(counts.min() >= 1)


@pytest.mark.parametrize("name", FACTS)
def test_padding_is_zero(loaded, name):
    for part in loaded[name].splits.values():
        valid = valid_steps(part.lengths, part.x.shape[1])
        assert not bool(part.x[~valid].any())


@pytest.mark.parametrize("name", ["vowels", "plaid", "leaf", "power", "tecator", "covid"])
def test_train_is_standardised_and_the_others_are_not(loaded, name):
    splits = loaded[name].splits

    def moments(part):
        seen = part.x[valid_steps(part.lengths, part.x.shape[1])].double()
        return seen.mean(0), seen.std(0, correction=0)

    mean, std = moments(splits["train"])
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones_like(std), atol=1e-5, rtol=0)
    # Leaf and power come with every single series scaled, so there no split can tell.
    if name not in {"leaf", "power"}:
        mean, std = moments(splits["test"])
        assert float((std - 1).abs().max()) > 1e-4
    assert len(loaded[name].details["scaling"]["mean"]) == FACTS[name][0]


def test_digits_are_pixels_over_16(loaded):
    x = torch.cat([part.x for part in loaded["digits"].splits.values()])
    assert float(x.min()) == 0.0
    assert float(x.max()) == 1.0
    torch.testing.assert_close(x * 16, (x * 16).round(), atol=0, rtol=0)


@pytest.mark.parametrize("name", FACTS)
def test_loading_again_gives_the_same_digest(loaded, name):
    again = load_data(f"embedded:{name}")
    assert again.sha256 == loaded[name].sha256 == digest_of(again.splits)
    assert again.details == loaded[name].details


@pytest.mark.parametrize("name", ["digits", "power"])
def test_fixed_sets_do_not_move_with_the_seed(loaded, name):
    assert load_data(f"embedded:{name}", seed=5).sha256 == loaded[name].sha256


def test_majority_rate(loaded):
    for name in ("listops", "plaid"):
        y = loaded[name].splits["test"].y
        rate = float(y.bincount().max()) / len(y)
        assert loaded[name].details["majority_rate"]["test"] == pytest.approx(rate)


def test_unknown_name_suggests_the_closest():
    with pytest.raises(InputError, match="did you mean embedded:digits"):
        load_data("embedded:digit")
    with pytest.raises(InputError, match="choose one"):
        load_data("embedded:zzzz")


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sktime", None)
    with pytest.raises(MissingExtraError, match=r"ssmith\[data\]"):
        load_data("embedded:leaf")


def test_classes_and_task_must_agree(loaded):
    classes = loaded["power"].classes
    assert load_data("embedded:power", classes=classes, task="classification").classes == classes
    with pytest.raises(DataError, match="has classes 1, 2"):
        load_data("embedded:power", classes=("2", "1"))
    with pytest.raises(DataError, match="is for classification"):
        load_data("embedded:power", task="regression")


def test_plaid_holds_the_shape_and_the_level_of_each_series(loaded):
    part = loaded["plaid"].splits["selection"]
    shape_std = []
    for x, length in zip(part.x[:50], part.lengths[:50], strict=True):
        assert float(x[:length, 1].std()) < 1e-5
        shape_std.append(float(x[:length, 0].std(correction=0)))
    # Each series has scale 1 before the training split's statistics scale all of them alike.
    assert max(shape_std) - min(shape_std) < 1e-3
    levels = part.x[:, 0, 1]
    assert float(levels.max() - levels.min()) > 2
