import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ssmith.core.errors import DataError, InputError
from ssmith.core.rows import Rows, rows
from ssmith.core.sequences import Sequences


class Double(nn.Module):
    def forward(self, x, shift=0):
        return 2 * x + shift


def test_a_loader_that_shuffles_stays_the_same():
    x, y = torch.arange(10.0)[:, None], torch.arange(10)
    found = rows(DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True))
    assert len(found) == 10
    first, second = (found.batch(range(10)).inputs for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[0][:, 0].long(), first[1])
    assert sorted(first[1].tolist()) == list(range(10))


def test_batches_of_other_lengths_are_cut_and_not_joined():
    found = rows([torch.zeros(3, 5), torch.ones(2, 4)])
    assert found.ranges(2) == [range(2), range(2, 3), range(3, 5)]
    assert [found.batch(part).inputs.shape for part in found.ranges(9)] == [(3, 5), (2, 4)]
    with pytest.raises(DataError, match=r"\(5,\), \(4,\)"):
        found.batch(range(2, 4))


def test_dicts_and_tuples_reach_the_network():
    x = torch.tensor([[1.0], [2.0]])
    for batch, expected in (({"x": x, "shift": 1}, 2 * x + 1), ((x, "label"), 2 * x), (x, 2 * x)):
        found = rows([batch])
        assert torch.equal(found.forward(Double(), found.batch(range(2))), expected)
    own = rows([{"pixels": x}], lambda model, batch: model(batch["pixels"]))
    assert torch.equal(own.forward(Double(), own.batch(range(1))), 2 * x[:1])


def test_names_travel_with_their_rows():
    found = rows(
        [{"x": torch.zeros(2, 1), "who": ["a", "b"]}, {"x": torch.ones(1, 1), "who": ["c"]}]
    )
    assert found.batch(range(1, 3)).inputs["who"] == ["b", "c"]


def test_a_mask_says_which_steps_count():
    ids = torch.tensor([[1, 2, 0], [3, 0, 0]])
    found = rows([ids], valid=lambda batch: batch > 0)
    assert found.batch(range(2)).valid.tolist() == [[True, True, False], [True, False, False]]
    part = Sequences(x=ids, lengths=torch.tensor([2, 1]), y=torch.tensor([0, 0]))
    assert isinstance(part, Rows)
    assert part.batch(range(2)).valid.tolist() == [[True, True], [True, False]]


def test_other_rows_have_another_digest():
    one, same, other = (rows([torch.full((2, 1), value)]) for value in (0.0, 0.0, 1.0))
    assert one.describe() == same.describe() != other.describe()
    assert one.describe()["counts"] == {"rows": 2}


def test_what_yields_no_batches_is_refused():
    with pytest.raises(InputError, match="rows are int"):
        rows(3)
    with pytest.raises(InputError, match="str without a tensor"):
        rows(["text"])
    with pytest.raises(DataError, match="no row"):
        rows([])
    with pytest.raises(InputError, match="knows how it is read"):
        rows(rows([torch.zeros(1, 1)]), lambda model, batch: batch)
