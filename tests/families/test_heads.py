"""Heads on Hugging Face backbones: padding leaves no trace, on whatever side and however much."""

import pytest
import torch

from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith.core.errors import DataError, InputError, ModelError
from ssmith.core.settings import from_mapping, to_mapping
from ssmith.families.heads import HeadConfig, TaskModel, with_head
from ssmith.families.hf import accelerate_

pytest.importorskip("transformers")
# The norms of transformers round to float32 inside a float64 model.
CLOSE = 1e-6


def headed(name, **settings):
    model = tiny(name, dtype=torch.float64)
    accelerate_(model)
    return with_head(model, HeadConfig(**({"outputs": 3} | settings)), torch.Generator()).eval()


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("extra", [1, 9])
def test_padding_changes_nothing(name, pooling, left, extra):
    model = headed(name, pooling=pooling)
    rows = [tokens(1, length, seed=length)[0] for length in (5, 11, 8)]
    longest = 11 + extra
    ids, mask = torch.full((3, longest), 7), torch.zeros(3, longest, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        ids[number, place], mask[number, place] = row, 1
    with torch.no_grad():
        together = model(input_ids=ids, attention_mask=mask)
        alone = torch.cat([model(row[None]) for row in rows])
        if not left:
            by_length = model(ids, lengths=torch.tensor([5, 11, 8]))
            assert torch.allclose(by_length, alone, rtol=0, atol=CLOSE)
    assert torch.allclose(together, alone, rtol=0, atol=CLOSE)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


def test_series_may_hold_anything_in_their_padding(name):
    model = headed(name, task="regression", channels=2)
    x = torch.randn(2, 9, 2, dtype=torch.float64)
    lengths = torch.tensor([6, 9])
    with torch.no_grad():
        alone = model(x=x[:1, :6])
        x[0, 6:] = torch.nan
        found = model(x=x, lengths=lengths)
    assert torch.allclose(found[:1], alone, rtol=0, atol=CLOSE)


def test_mean_and_last_pool_what_they_say():
    model = headed("mamba", pooling="last")
    ids = tokens(2, 7)
    with torch.no_grad():
        hidden = model.backbone(ids).last_hidden_state
        assert torch.allclose(model(ids), model.score(hidden[:, -1]), rtol=0, atol=CLOSE)
        mean = headed("mamba", pooling="mean")
        wanted = mean.score(mean.backbone(ids).last_hidden_state.mean(1))
        assert torch.allclose(mean(ids), wanted, rtol=0, atol=CLOSE)


def test_the_backbone_is_shared_and_keeps_its_name(name):
    model = tiny(name)
    task = with_head(model, HeadConfig(outputs=2))
    assert task.backbone is model.backbone
    keys = {key for key in model.state_dict() if key.startswith("backbone.")}
    assert keys < set(task.state_dict())
    with pytest.raises(ModelError, match="has a head"):
        with_head(task, HeadConfig(outputs=2))


def test_a_head_in_half_precision_stays_wide():
    model = with_head(tiny("mamba", dtype=torch.bfloat16), HeadConfig(outputs=2))
    assert model.score.weight.dtype == torch.float32
    assert model(tokens(2, 5)).dtype == torch.float32


def test_configurations_survive_json_and_refuse_the_rest():
    config = HeadConfig(outputs=2, classes=("a", "b"), pooling="last")
    assert from_mapping(HeadConfig, to_mapping(config), where="head") == config
    for wrong in ({"outputs": 2, "width": 3}, {}, {"outputs": 0}, {"outputs": 2, "pooling": "max"}):
        with pytest.raises(InputError):
            from_mapping(HeadConfig, wrong, where="head")
    with pytest.raises(InputError, match="3 classes"):
        HeadConfig(outputs=2, classes=("a", "b", "c"))


def test_what_does_not_fit_is_refused():
    model = headed("mamba")
    with pytest.raises(DataError, match="nothing it reads"):
        model()
    with pytest.raises(DataError, match="integer tokens"):
        model(torch.zeros(1, 3, 2, dtype=torch.float64))
    with pytest.raises(DataError, match="at least one valid step"):
        model(tokens(2, 4), lengths=torch.tensor([0, 4]))
    series = headed("mamba", channels=2)
    with pytest.raises(DataError, match="shape"):
        series(x=torch.zeros(1, 3, 4, dtype=torch.float64))
    assert isinstance(series, TaskModel)
