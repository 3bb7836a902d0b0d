"""Muon for matrices, AdamW for the rest: sizes of steps, moments there and back, clear errors."""

import pytest
import torch

from helpers.adapting import METHODS, build
from ssmith import adapters
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.jobs.tuning.groups import rate_groups
from ssmith.tune.training import TrainingConfig
from ssmith.tune.training.optimizers import Optimizers

RATE = 0.01


def parameter(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.Parameter(torch.randn(*shape, generator=draw))


def groups(*parts):
    return [
        {"params": [item], "lr": RATE, "weight_decay": 0.0, "optimizer": kind}
        for item, kind in parts
    ]


@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (6, 40), (40, 6)])
def test_a_step_of_muon_is_the_orthogonal_factor_times_its_scale(rows, columns):
    weight = parameter(rows, columns)
    before = weight.detach().clone()
    weight.grad = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(weight.grad.double(), full_matrices=False)
    Optimizers(groups((weight, "muon")), (0.9, 0.999)).step()
    step = (before - weight.detach()).double()
    scale = RATE * 0.2 * max(rows, columns) ** 0.5 * max(1.0, rows / columns) ** 0.5
    # Five rounds of Newton and Schulz leave singular values between about 0.7 and 1.2.
    values = torch.linalg.svdvals(step) / scale
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.4
    cosine = (step * (left @ right)).sum() / step.norm() / (left @ right).norm()
    assert cosine > 0.95


def test_a_group_without_muon_steps_like_adamw():
    mine, theirs, matrix = parameter(7), parameter(7), parameter(4, 5)
    ours = Optimizers(groups((mine, "adamw"), (matrix, "muon")), (0.9, 0.95))
    plain = torch.optim.AdamW([theirs], lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    for seed in range(3):
        for item in (mine, theirs):
            item.grad = torch.randn(7, generator=torch.Generator().manual_seed(seed))
        matrix.grad = torch.ones(4, 5)
        ours.step()
        plain.step()
    assert torch.equal(mine, theirs)


def test_moments_go_there_and_back_to_the_last_bit():
    def made():
        tall, wide, vector = parameter(9, 3), parameter(3, 9), parameter(5)
        parts = groups((tall, "muon"), (vector, "adamw"), (wide, "muon"))
        return (tall, wide, vector), Optimizers(parts, (0.9, 0.999))

    def step(tensors, optimizer, seed):
        optimizer.set_rates(1 / (seed + 1))
        for item in tensors:
            draw = torch.Generator().manual_seed(seed)
            item.grad = torch.randn(item.shape, generator=draw)
        optimizer.step()

    whole, through = made()
    for seed in range(4):
        step(whole, through, seed)
    first, halfway = made()
    for seed in range(2):
        step(first, halfway, seed)
    second, other = made()
    with torch.no_grad():
        for here, there in zip(second, first, strict=True):
            here.copy_(there)
    other.set_moments(halfway.moments())
    for seed in (2, 3):
        step(second, other, seed)
    assert all(map(torch.equal, whole, second))
    assert {key.split("/")[0] for key in through.moments()} == {"adamw", "muon"}


def rates_of(method, **settings):
    model = build("mamba")
    adapters.attach_(model, METHODS[method], prove=False)
    return model, rate_groups(model, "default", TrainingConfig(**settings), steps=10)


def test_auto_takes_muon_where_it_was_measured_to_help():
    kinds = {"offset-h": "muon", "core-seeded": "muon", "lora": "adamw", "initial-state": "adamw"}
    for method, optimizer in kinds.items():
        _, (found, rates) = rates_of(method)
        assert {group.optimizer for group in found} == {optimizer}
        assert {rate.optimizer for rate in rates.values()} == {optimizer}


def test_muon_steps_the_matrices_of_a_group_alone():
    model, (found, rates) = rates_of("dora", optimizer="muon")
    assert {group.name: group.optimizer for group in found} == {
        "dora": "muon", "dora-vectors": "adamw",
    }  # fmt: skip
    assert all(item.ndim == 2 for item in found[0].parameters.values())
    trained = {name for group in found for name in group.parameters}
    assert trained == set(adapters.trainable(model))
    assert rates["dora"].optimizer == "muon"
    _, (found, _) = rates_of("core-seeded", optimizer="adamw")
    assert [group.optimizer for group in found] == ["adamw"]


def test_muon_for_methods_without_a_matrix_is_refused():
    with pytest.raises(InputError, match="train no matrix"):
        rates_of("bitfit", optimizer="muon")
    with pytest.raises(InputError, match="optimizer"):
        TrainingConfig(optimizer="lion")


def test_a_torch_without_muon_is_said_by_name(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UnsupportedError, match=r"2\.9"):
        Optimizers(groups((parameter(3, 3), "muon")), (0.9, 0.999))


def test_a_rate_that_is_given_holds_for_both_parts_of_a_group():
    model = build("mamba")
    adapters.attach_(model, METHODS["dora"], prove=False)
    config = TrainingConfig(rates={"dora": 0.125})
    found, rates = rate_groups(model, "default", config, steps=10)
    assert {group.rate for group in found} == {0.125}
    assert {rate.source for rate in rates.values()} == {"given"}
