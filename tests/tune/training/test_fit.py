"""Training: it learns, it resumes to the same bits, it stops, and it refuses."""

import copy
import itertools
import json

import pytest
import torch
from safetensors.torch import save_file

from helpers.models import FAMILIES, Kind, make_model
from helpers.unchecked import build
from ssmith.core.errors import ArtefactError, InputError, NumericalError
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.families import find_layers
from ssmith.tune import FitConfig, fit
from ssmith.tune.training import AnswerObjective
from ssmith.tune.training.checkpoint import (
    Checkpoint,
    Facts,
    curve_of,
    read_checkpoint,
    write_checkpoint,
)
from ssmith.tune.training.optimizers import Optimizers

CONFIG = FitConfig(epochs=3, batch_size=12, lr=1e-2, ssm_lr=5e-3, patience=3, seed=3)


class Stopped(BaseException):
    """What a kill looks like from inside."""


def make_data(*, task="classification", sha256="data", count=36):
    """Sequences whose class is the sign of a channel's mean, padded with garbage."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 2
    x = 0.3 * torch.randn(count, 9, 2, generator=draw) + (2.0 * y - 1).view(-1, 1, 1)
    lengths = torch.randint(4, 10, (count,), generator=draw)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 99.0
    targets = y if task == "classification" else y.float().unsqueeze(-1)
    part = Sequences(x=x, lengths=lengths, y=targets)
    return SequenceData(name="tiny", task=task, splits={"train": part}, sha256=sha256)


def tiny(kind=FAMILIES[0], **changes):
    return make_model(kind, dtype=torch.float32, **{"outputs": 2, "dropout": 0.2, **changes})


def training_loss(data):
    part = data.split("train")

    def validate(model):
        model.eval()
        with torch.no_grad():
            batch = {"x": part.x, "lengths": part.lengths, "target": part.y}
            return (-float(AnswerObjective(task=data.task).loss(model, batch)),)

    return validate


def weights(model):
    return {name: item.clone() for name, item in model.state_dict().items()}


def assert_equal(first, second):
    assert set(first) == set(second)
    for name, item in first.items():
        assert torch.equal(item, second[name]), name


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_it_learns_what_can_be_learned(kind, task):
    data = make_data(task=task)
    model = tiny(kind, task=task, outputs=2 if task == "classification" else 1)
    validate = training_loss(data)
    before = -validate(model)[0]
    config = FitConfig(epochs=12, batch_size=12, lr=5e-2, ssm_lr=5e-3, seed=1)
    done = fit(model, data, config, validate)
    after = -validate(model)[0]
    assert after < 0.4 * before
    assert [look.step for look in done.looks] == list(range(3, 37, 3))
    assert not model.training
    # The model has the best epoch's weights, whichever came last.
    best = next(look for look in done.looks if look.step == done.best_step)
    assert -best.score[0] == after
    assert after == min(-look.score[0] for look in done.looks)
    for look in done.looks:
        # Each of an epoch's three batches is of twelve sequences.
        mean = sum(done.losses[look.step - 3 : look.step]) / 3
        assert look.train_loss == pytest.approx(mean)


def test_the_same_seed_is_the_same_training_and_another_is_not():
    data = make_data()
    runs = []
    for seed in (3, 3, 4):
        model = tiny()
        torch.manual_seed(len(runs))
        fit(model, data, FitConfig(**{**vars(CONFIG), "seed": seed}), training_loss(data))
        runs.append(weights(model))
    assert_equal(runs[0], runs[1])
    assert not torch.equal(runs[0]["head.weight"], runs[2]["head.weight"])


def test_the_callers_random_stream_is_left_alone():
    data = make_data()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(tiny(), data, CONFIG, training_loss(data))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
@pytest.mark.parametrize(
    ("stopped_in", "where"), [(1, "training"), (2, "training"), (2, "after"), (3, "after")]
)
def test_a_run_that_was_killed_ends_with_the_same_bits(kind, stopped_in, where, tmp_path):
    data, path = make_data(), tmp_path / "run.safetensors"
    whole, broken = tiny(kind), tiny(kind)
    expected = fit(whole, data, CONFIG, training_loss(data))

    validate = training_loss(data)
    calls = []

    def kill(model):
        calls.append(1)
        if len(calls) == stopped_in and where == "training":
            raise Stopped
        return validate(model)

    def told(stage, step, total, note=""):
        if step == 3 * stopped_in and where == "after":
            raise Stopped

    with pytest.raises(Stopped):
        fit(broken, data, CONFIG, kill, checkpoint=path, progress=told)
    # Before the first checkpoint only the seed can bring the same start back.
    again = tiny(kind, seed=9 if path.exists() else 0)
    done = fit(again, data, CONFIG, validate, checkpoint=path)
    assert_equal(weights(again), weights(whole))
    assert done == expected
    assert {item.name for item in tmp_path.iterdir()} == {path.name, curve_of(path).name}
    curve = json.loads(curve_of(path).read_text())
    assert curve["steps_done"] == 9
    assert [look["step"] for look in curve["validation"]] == [3, 6, 9]


def test_a_finished_run_is_not_run_again(tmp_path):
    data, path = make_data(), tmp_path / "run.safetensors"
    model = tiny()
    done = fit(model, data, CONFIG, training_loss(data), checkpoint=path)
    other = tiny(seed=7)

    def never(_):
        pytest.fail("no epoch is left")

    assert fit(other, data, CONFIG, never, checkpoint=path) == done
    assert_equal(weights(other), weights(model))


def test_patience_stops_and_the_best_weights_stay():
    data = make_data()
    model = tiny()
    answers = iter([(0.1,), (0.9,), (0.5,), (0.9,), (0.2,), (1.0,)])
    seen = []

    def validate(model):
        seen.append(weights(model))
        return next(answers)

    done = fit(model, data, FitConfig(epochs=6, patience=3, seed=0), validate)
    # Equal to the best is no improvement.
    assert (done.best_step, len(done.looks), done.stopped_early) == (2 * 2, 5, True)
    assert_equal(weights(model), seen[1])


def test_ties_in_the_first_number_are_broken_by_the_second():
    answers = iter([(0.5, -1.0), (0.5, -0.5), (0.4, 0.0)])
    done = fit(tiny(), make_data(), FitConfig(epochs=3, seed=0), lambda _: next(answers))
    assert done.best_step == 2 * 2


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_state_space_parameters_have_their_own_rate_and_no_decay(kind, monkeypatch):
    found = {}

    class Spy(torch.optim.AdamW):
        def __init__(self, groups, **settings):
            found["groups"] = [dict(group) for group in groups]
            super().__init__(groups, **settings)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    model = tiny(kind)
    fit(model, make_data(), FitConfig(epochs=1, weight_decay=0.07, lr=0.02, ssm_lr=0.001),
        lambda _: (0.0,))  # fmt: skip
    rule = {
        id(item): (group["lr"], group["weight_decay"])
        for group in found["groups"]
        for item in group["params"]
    }
    ssm = {"Lambda_re", "Lambda_im", "B", "log_step", "log_A_real", "A_imag", "log_dt"}
    assert len(rule) == sum(len(group["params"]) for group in found["groups"])
    for name, item in model.named_parameters():
        last = name.rpartition(".")[2]
        if ".ssm." in name and last in ssm:
            assert rule[id(item)] == (0.001, 0.0), name
        elif item.ndim <= 1:
            assert rule[id(item)] == (0.02, 0.0), name
        else:
            assert rule[id(item)] == (0.02, 0.07), name


def test_what_is_frozen_stays():
    model = tiny()
    frozen = ["encoder.weight", "blocks.0.ssm.Lambda_im"]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    before = weights(model)
    fit(model, make_data(), CONFIG, training_loss(make_data()))
    for name in frozen:
        assert torch.equal(model.get_parameter(name), before[name])
    assert not torch.equal(model.get_parameter("head.weight"), before["head.weight"])


def test_the_rate_rises_and_falls():
    rates = []

    model = tiny()
    step = torch.optim.AdamW.step

    def note(self, *args, **given):
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *args, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", note)
        config = FitConfig(epochs=4, batch_size=9, lr=0.1, ssm_lr=0.01, warmup=0.25, seed=0)
        fit(model, make_data(), config, lambda _: (0.0,))
    ssm, plain = [rate[0] for rate in rates], [rate[2] for rate in rates]
    assert len(rates) == 16
    assert plain[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert max(plain) == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in itertools.pairwise(plain[4:]))
    assert ssm == pytest.approx([rate / 10 for rate in plain])


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    data, model = make_data(), tiny()
    with torch.no_grad():
        model.get_parameter("head.weight").fill_(float("inf"))
    with pytest.raises(NumericalError, match=r"training loss became .*lower the learning rate"):
        fit(model, data, CONFIG, training_loss(data), checkpoint=tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_validation_that_is_not_finite_ends_the_run(tmp_path):
    data = make_data()
    with pytest.raises(NumericalError, match="validation"):
        fit(tiny(), data, CONFIG, lambda _: (float("nan"),), checkpoint=tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(tiny(), make_data(), FitConfig(**{**vars(CONFIG), "epochs": 1, "patience": 1}),
        training_loss(make_data()), checkpoint=path)  # fmt: skip
    return path


ONE = FitConfig(**{**vars(CONFIG), "epochs": 1, "patience": 1})


@pytest.mark.parametrize("what", ["settings", "seed", "data"])
def test_another_runs_checkpoint_changes_nothing(checkpoint, what):
    config = {"settings": {"lr": 0.5}, "seed": {"seed": 4}, "data": {}}[what]
    data = make_data(sha256="other" if what == "data" else "data")
    model = tiny(seed=5)
    before = weights(model)
    key = {"settings": "settings.lr was 0.01 and is 0.5", "seed": "settings.seed was 3 and is 4",
           "data": 'data was "data" and is "other"'}[what]  # fmt: skip
    with pytest.raises(ArtefactError, match=f"other settings or data: {key}; next"):
        fit(model, data, FitConfig(**{**vars(ONE), **config}), training_loss(data),
            checkpoint=checkpoint)  # fmt: skip
    assert_equal(weights(model), before)


@pytest.mark.parametrize("fault", ["other model", "empty", "truncated", "text", "no facts"])
def test_a_file_that_is_no_checkpoint_of_this_model(checkpoint, fault):
    content = checkpoint.read_bytes()
    model = tiny(seed=5)
    if fault == "other model":
        model = make_model(Kind("s4d"), dtype=torch.float32, outputs=2)
    elif fault == "no facts":
        save_file({"model/x": torch.zeros(1)}, checkpoint)
    else:
        checkpoint.write_bytes({"empty": b"", "truncated": content[:-40], "text": b"x" * 99}[fault])
    before = weights(model)
    with pytest.raises(
        ArtefactError, match=r"is (not )?a checkpoint.*delete it to start again"
    ) as caught:
        fit(model, make_data(), ONE, training_loss(make_data()), checkpoint=checkpoint)
    assert "\n" not in str(caught.value)
    assert_equal(weights(model), before)


def adamw(model):
    group = {"params": list(model.parameters()), "lr": 0.1, "weight_decay": 0.0}
    return Optimizers([group], (0.9, 0.999))


def test_a_checkpoint_holds_weights_moments_and_facts(tmp_path):
    model = tiny()
    optimizer = adamw(model)
    x = torch.randn(2, 5, 2)
    model(x).sum().backward()
    optimizer.step()
    path = tmp_path / "x.safetensors"
    facts = Facts(identity={"seed": 1, "targets": ("a", "b")})
    losses = torch.tensor([0.1, 0.2], dtype=torch.float64)
    best = weights(tiny(seed=3))
    moments = optimizer.moments()
    write_checkpoint(
        path,
        Checkpoint(losses=losses, weights=weights(model), best=best, moments=moments, facts=facts),
    )
    other = tiny(seed=8)
    other_optimizer = adamw(other)
    found = read_checkpoint(path, facts.identity, weights(other))
    assert found.facts.identity == {"seed": 1, "targets": ["a", "b"]}
    assert torch.equal(found.losses, losses)
    assert_equal(found.best, best)
    assert_equal(found.weights, weights(model))
    other_optimizer.set_moments(found.moments)
    assert moments
    assert_equal(other_optimizer.moments(), moments)


def test_a_masked_model_trains_without_its_masked_states():
    model = tiny()
    layer = next(iter(find_layers(model).values()))
    layer.mask_(torch.arange(6) < 3)
    before = copy.deepcopy(layer)
    fit(model, make_data(), CONFIG, training_loss(make_data()))
    for name in ("Lambda_re", "Lambda_im"):
        assert torch.equal(layer.get_parameter(name)[3:], before.get_parameter(name)[3:])
        assert not torch.equal(layer.get_parameter(name)[:3], before.get_parameter(name)[:3])


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"batch_size": "8"},
        {"patience": -1},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"ssm_lr": "fast"},
        {"clip_norm": float("inf")},
        {"weight_decay": -0.1},
        {"warmup": 1.0},
        {"seed": -1},
        {"seed": 1.0},
    ],
    ids=str,
)
def test_settings_outside_their_domain(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        build(FitConfig, **wrong)
