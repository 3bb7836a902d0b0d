"""Any data as rows: loaders, dicts, tuples, data sets, sequences, windows; masks; digests."""

import collections
import dataclasses
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ssmith as sm
from helpers.selective import windows_of
from ssmith.core.errors import DataError, InputError
from ssmith.core.rows import Rows, as_rows
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.core.trees import mapped, placed

X = torch.arange(24.0).reshape(4, 3, 2)


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x, shift=0):
        assert x.dtype == self.scale.dtype
        return self.scale * x + shift


def outputs(found, model):
    with torch.no_grad():
        return [found.forward(model, found.batch(part)) for part in found.ranges(1)]


def test_a_loader_that_shuffles_stays_the_same():
    x, y = torch.arange(10.0)[:, None], torch.arange(10)
    found = sm.rows(DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True))
    assert found.ranges(99) == [range(1), range(1, 2), range(2, 3)]
    first, second = ([found.batch(range(i, i + 1)).inputs for i in range(3)] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[0][:, 0].long(), one[1])
    assert sorted(torch.cat([item[1] for item in first]).tolist()) == list(range(10))
    assert [found.batch(part).count for part in found.ranges(1)] == [4, 4, 2]
    assert found.describe().counts == {"batches": 3, "rows": 10}


def test_a_generator_is_read_once_and_what_it_writes_over_is_kept():
    buffer = torch.zeros(2, 3)

    def source():
        for value in (1.0, 2.0):
            yield buffer.fill_(value)

    found = sm.rows(source())
    assert [float(found.batch(part).inputs.mean()) for part in found.ranges(1)] == [1.0, 2.0]


@dataclasses.dataclass
class Clip:
    frames: torch.Tensor
    name: str


@pytest.mark.parametrize(
    ("batch", "forward"),
    [
        (X, None),
        ((X, "label"), None),
        ([X, torch.zeros(4)], None),
        ({"x": X, "label": torch.zeros(4)}, None),
        (collections.UserDict(x=X), lambda model, batch: model(batch["x"])),
        ({"pixels": X.numpy()}, lambda model, batch: model(batch["pixels"])),
        (Clip(X, "a"), lambda model, batch: model(batch.frames)),
        (collections.namedtuple("Pair", "a b")(0, X), lambda model, batch: model(batch.b)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_kind_of_batch_reaches_the_network_in_its_type(batch, forward, dtype):
    (out,) = outputs(sm.rows([batch], forward), Double().to(dtype))
    assert torch.equal(out, 2 * X.to(dtype))


def test_a_dict_gives_what_forward_takes():
    (out,) = outputs(sm.rows([{"shift": torch.tensor(1), "x": X, "y": X}]), Double())
    assert torch.equal(out, 2 * X + 1)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"pixels": X}, "keys pixels, and Double takes x, shift"),
        ({"shift": X}, "keys shift, and Double takes x, shift"),
        (("label", X), "a batch is a tuple"),
        (Clip(X, "a"), "a batch is a Clip"),
    ],
)
def test_what_cannot_be_read_says_how_to_go_on(batch, said):
    found = sm.rows([batch])
    with pytest.raises(InputError, match=said) as caught:
        outputs(found, Double())
    assert "forward=lambda model, batch" in str(caught.value)


class Table:
    """What this package needs of a ``datasets.Dataset``."""

    column_names = ("x", "name")

    def __init__(self, kind="lists"):
        self.kind = kind

    def __len__(self):
        return 4

    def with_format(self, kind):
        return Table(kind)

    def __getitem__(self, part):
        assert self.kind == "torch"
        return {"x": X[part], "name": ["a"] * len(X[part])}


@pytest.mark.parametrize(
    "source", [Table(), TensorDataset(X)], ids=lambda item: type(item).__name__
)
def test_data_sets_come_in_batches(source):
    found = sm.rows(source, batch_size=3)
    assert [found.batch(part).count for part in found.ranges(1)] == [3, 1]
    assert torch.equal(torch.cat(outputs(found, Double())), 2 * X)


MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]])


@pytest.mark.parametrize("valid", ["mask", lambda batch: batch["mask"] > 0])
def test_a_mask_says_which_steps_count(valid):
    found = sm.rows([{"x": X, "mask": MASK}], valid=valid)
    assert torch.equal(found.batch(range(1)).valid, MASK.bool())
    full = sm.rows([{"x": X, "mask": torch.ones(4, 3)}], valid=valid)
    assert full.batch(range(1)).valid is None


def test_masks_may_be_those_of_sites_and_of_their_calls():
    found = sm.rows([X], valid=lambda batch: {"a.*": MASK, "b": [MASK, MASK.flip(1)]})
    valid = found.batch(range(1)).valid
    assert valid["a.*"].dtype == torch.bool
    assert torch.equal(valid["b"][1], MASK.bool().flip(1))


@pytest.mark.parametrize(
    ("valid", "said"),
    [
        ("mask", "valid is 'mask', and a batch has x"),
        (lambda batch: batch["x"], r"a mask of shape \(4, 3, 2\)"),
        (lambda batch: [MASK, MASK], "2 masks for a batch"),
    ],
)
def test_masks_that_are_none_are_refused(valid, said):
    with pytest.raises(InputError, match=said):
        sm.rows([{"x": X}], valid=valid)


def test_every_tensor_and_mask_counts_for_the_fingerprint():
    def digest(*batches, valid=None):
        return sm.rows(batches, valid=valid).fingerprint

    same = digest({"x": X, "n": 1, "a": np.ones(2)})
    assert same == digest({"x": X.clone(), "n": 1, "a": np.ones(2)})
    others = [
        digest({"x": X + 1, "n": 1, "a": np.ones(2)}),
        digest({"x": X.double(), "n": 1, "a": np.ones(2)}),
        digest({"x": X, "n": 2, "a": np.ones(2)}),
        digest({"x": X, "n": 1, "a": np.zeros(2)}),
        digest({"x": X, "n": 1, "a": np.ones(2)}, X),
        digest({"x": X, "n": 1, "a": np.ones(2)}, valid=lambda batch: MASK),
    ]
    assert len({same, *others}) == 7


def test_sequences_come_by_length_and_windows_as_they_are():
    part = Sequences(x=X, lengths=torch.tensor([2, 3, 1, 2]), y=torch.arange(4))
    assert isinstance(part, Rows)
    batches = [part.batch(items) for items in part.ranges(3)]
    assert [batch.inputs.y.tolist() for batch in batches] == [[2, 0, 3], [1]]
    assert batches[0].valid.tolist() == [[True, False], [True, True], [True, True]]
    assert batches[1].valid is None
    windows = windows_of(3, 5, lengths=torch.tensor([5, 2, 5]))
    assert isinstance(windows, Rows)
    first, second = (windows.batch(items) for items in windows.ranges(2))
    assert first.valid.tolist() == [[True] * 5, [True] * 2 + [False] * 3]
    assert second.valid is None
    assert second.inputs.ids.shape == (1, 5)
    assert len({item.fingerprint for item in (part, part.first(3), windows, windows.first(1))}) == 4
    assert as_rows(part) is part


def test_windows_run_a_language_model_of_any_build():
    windows = windows_of(2, 4, lengths=torch.tensor([4, 3]))
    batch = windows.batch(range(2))
    named = types.SimpleNamespace()

    class Named(nn.Module):
        def forward(self, input_ids, attention_mask=None, use_cache=True):
            named.given = (input_ids, attention_mask, use_cache)

    windows.forward(Named(), batch)
    assert torch.equal(named.given[0], windows.ids)
    assert named.given[1].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert named.given[2] is False
    assert torch.equal(windows.forward(nn.Identity(), batch), windows.ids)


@pytest.mark.parametrize("source", [3, X, {"x": X}, "text"])
def test_what_yields_no_batches_is_refused(source):
    with pytest.raises(InputError, match="rows are a"):
        sm.rows(source)


def test_empty_and_wordless_and_told_twice():
    with pytest.raises(InputError, match="str without a tensor"):
        sm.rows(["text"])
    with pytest.raises(DataError, match="pixels yields no batch"):
        sm.rows([], name="pixels")
    with pytest.raises(InputError, match="knows how it is read"):
        sm.rows(sm.rows([X]), lambda model, batch: batch)
    with pytest.raises(InputError, match="2 batches in one"):
        sm.rows([X, X]).batch(range(2))
    data = SequenceData(name="d", task="regression", splits={})
    with pytest.raises(InputError, match=r"several splits.*data\.split\('train'\)"):
        as_rows(data)


def test_a_batch_is_placed_as_a_network_is():
    tree = placed({"x": X, "ids": MASK, "deep": [(X, "a")]}, nn.Linear(1, 1).double())
    assert tree["x"].dtype == tree["deep"][0][0].dtype == torch.float64
    assert tree["ids"].dtype == torch.int64
    assert mapped(tree, lambda item: item.shape)["deep"] == [((4, 3, 2), "a")]
