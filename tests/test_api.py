"""The spine: each verb does what its docstring says, errors included."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

import ssmith as sm
from helpers.models import FAMILIES, Kind, make_model
from ssmith import api
from ssmith.allocate import allocate
from ssmith.core.budget import Budget
from ssmith.core.errors import (
    DataError,
    InputError,
    ModelError,
    NumericalError,
    PlanError,
    UnsupportedError,
)
from ssmith.core.plan import Plan
from ssmith.core.sequences import SPLITS, SequenceData, Sequences
from ssmith.criteria import Magnitude
from ssmith.data import save_npz
from ssmith.evaluation import predict
from ssmith.families import find_layers, model_digest, modes_of

CLASSES = ("a", "b", "c", "d")


def series(count=24, seed=0, channels=2):
    draw = torch.Generator().manual_seed(seed)
    return Sequences(
        x=torch.randn(count, 11, channels, generator=draw),
        lengths=torch.randint(4, 12, (count,), generator=draw),
        y=torch.arange(count) % 4,
    )


def data(classes=CLASSES, **changes):
    splits = {name: series(seed=seed) for seed, name in enumerate(SPLITS)}
    return SequenceData(
        name="toy",
        task="classification",
        splits=changes.pop("splits", splits),
        classes=classes,
        **changes,
    )


@pytest.fixture
def model():
    return make_model(Kind("s5"), dtype=torch.float32, classes=CLASSES)


@pytest.fixture
def twin(model):
    """The same model with its head turned round: wrong where the other is right."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.weight.neg_()
    return other


def spoilt(model):
    with torch.no_grad():
        model.head.weight[0, 0] = math.inf
    return model


class Foreign(nn.Module):
    """Predicts, but is no sequence model of ours."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 4)

    def forward(self, x, lengths=None):
        return self.linear(x[:, 0])


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_inspect_counts_what_is_there(kind):
    model = make_model(kind)
    found = api.inspect(model, "mine")
    assert (found.name, found.digest) == ("mine", model_digest(model))
    assert found.parameters == sum(item.numel() for item in model.parameters())
    assert found.tensor_bytes == 8 * found.parameters
    assert [layer.units["state"] for layer in found.layers] == [
        layer.n_states for layer in find_layers(model).values()
    ]
    assert found.facts == {"task": "classification", "input": "2 channels", "outputs": 4}
    assert api.inspect(model).name == "SequenceModel"
    for part in ("mine", "2 channels", kind.family.partition("_")[0]):
        assert part in str(found)


def test_inspect_looks_into_foreign_modules(model):
    wrapped = nn.Sequential(nn.Linear(2, 2), model)
    found = api.inspect(wrapped)
    assert found.name == "Sequential"
    assert found.facts == {}
    assert all(layer.name.startswith("1.") for layer in found.layers)


def test_tokens_are_inspected_as_tokens():
    found = api.inspect(make_model(Kind("s5"), vocabulary=9))
    assert found.facts["input"] == "9 token ids"


def test_a_model_without_state_spaces_is_refused():
    with pytest.raises(ModelError, match="state space"):
        api.inspect(nn.Linear(2, 2))
    with pytest.raises(UnsupportedError, match="Linear has no state that can be cut"):
        sm.plan(nn.Linear(2, 2), Budget("state", 0.5))


def test_plan_is_allocate_of_scores_and_changes_nothing(model):
    before = model_digest(model)
    budget = Budget("state", 0.4, method="magnitude-global")
    scores = Magnitude(pool="model")(modes_of(model))
    plan = sm.plan(model, budget)
    wanted, findings = allocate(scores, budget)
    assert plan.diff(Plan(cuts=(wanted,), model_digest=before)) == ()
    assert plan.findings == findings
    assert plan.model_digest == before == model_digest(model)
    (cut,) = plan.cuts
    assert cut.total - cut.kept == budget.removed_of(cut.total)


def test_scores_of_weights_that_are_not_finite_are_refused(model):
    with torch.no_grad():
        next(iter(find_layers(model).values())).get_parameter("Lambda_re")[0] = math.nan
    with pytest.raises(NumericalError):
        sm.plan(model, Budget("state", 0.5))


def test_a_budget_that_cannot_be_met_is_refused(model):
    with torch.no_grad():
        for layer in find_layers(model).values():
            layer.get_parameter("Lambda_re").fill_(1e-3)
    with pytest.raises(PlanError, match="protected"):
        sm.plan(model, Budget("state", 0.5))


def test_measure_is_the_share_of_right_answers(model):
    part = series()
    right = predict(model, part).argmax(1) == part.y
    found = api.evaluate(model, part)
    assert (found.value, found.count) == (float(right.double().mean()), 24)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.method == "Wilson"


def test_measure_takes_another_metric_and_its_seed(model):
    part, metric = series(), "cross-entropy"
    first, again, other = (api.evaluate(model, part, metric, seed=seed) for seed in (0, 0, 1))
    expected = nn.functional.cross_entropy(predict(model, part).double(), part.y)
    assert first.value == pytest.approx(float(expected))
    assert first == again
    assert first.value == other.value
    assert (first.low, first.high) != (other.low, other.high)


def test_the_batch_size_changes_no_quality(model):
    part = series()
    found = {api.evaluate(model, part, batch_size=size).value for size in (1, 5, 64)}
    assert len(found) == 1


def test_measure_leaves_the_mode_alone(model):
    model.train()
    api.evaluate(model, series())
    assert model.training


def test_a_regression_is_measured_by_its_error():
    model = make_model(Kind("s4d"), dtype=torch.float32, task="regression", outputs=1)
    part = dataclasses.replace(series(), y=torch.randn(24))
    error = (predict(model, part)[:, 0] - part.y).abs().mean()
    assert api.evaluate(model, part).value == pytest.approx(float(error))


def test_a_foreign_model_needs_a_metric():
    model, part = Foreign(), series()
    with pytest.raises(ModelError, match="does not say what it predicts"):
        api.evaluate(model, part)
    with pytest.raises(ModelError, match="does not say what it predicts"):
        api.compare(model, model, part)
    assert api.evaluate(model, part, "accuracy").count == 24


def test_outputs_that_are_not_finite_are_refused(model):
    bad = spoilt(copy.deepcopy(model))
    with pytest.raises(NumericalError, match="24 of 24"):
        api.evaluate(bad, series())
    with pytest.raises(NumericalError):
        api.compare(model, bad, series())


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_below_one_is_refused(model, size):
    with pytest.raises(InputError, match="batch_size is"):
        api.evaluate(model, series(), batch_size=size)


def test_no_sequence_cannot_be_measured(model):
    with pytest.raises(DataError):
        api.evaluate(model, series(count=0))


def test_targets_must_fit_the_metric(model):
    part = dataclasses.replace(series(), y=torch.randn(24))
    with pytest.raises(DataError):
        api.evaluate(model, part)


def test_compare_counts_pairs(model, twin):
    part = series()
    first, second = (predict(item, part).argmax(1) == part.y for item in (model, twin))
    found = api.compare(model, twin, part)
    assert dataclasses.astuple(found.agreement) == (
        int((first & second).sum()),
        int((first & ~second).sum()),
        int((~first & second).sum()),
        int((~first & ~second).sum()),
    )
    assert found.before == api.evaluate(model, part)
    assert found.after == api.evaluate(twin, part)
    assert found.difference.value == pytest.approx(found.after.value - found.before.value)


def test_a_model_compared_with_itself_is_equal(model):
    found = api.compare(model, model, series(), "cross-entropy")
    assert found.difference.value == found.difference.low == found.difference.high == 0
    assert found.p == 1


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_parity_holds_for_a_shrunk_and_saved_model(kind, tmp_path):
    model = make_model(kind, dtype=torch.float32)
    plan = sm.plan(model, Budget("state", 0.5))
    masked, shrunk = copy.deepcopy(model), copy.deepcopy(model)
    api.prune_(masked, plan, "mask")
    api.prune_(shrunk, plan, "shrink")
    api.save(shrunk, tmp_path / "model")
    found = api.parity(masked, shrunk, tmp_path / "model", series())
    assert found.passed
    assert [check.name for check in found.checks] == [
        "shrunk_vs_masked", "step_vs_scan", "saved_vs_loaded",
    ]  # fmt: skip
    assert found.checks[2].worst == 0.0


def test_parity_finds_what_differs(model, twin, tmp_path):
    api.save(twin, tmp_path / "twin")
    found = api.parity(model, model, tmp_path / "twin", series())
    assert [check.name for check in found.failed] == ["saved_vs_loaded"]
    api.save(model, tmp_path / "model")
    found = api.parity(twin, model, tmp_path / "model", series())
    assert [check.name for check in found.failed] == ["shrunk_vs_masked"]
    assert not found.passed


def test_parity_says_what_a_two_way_model_lacks(tmp_path):
    model = make_model(Kind("s5", bidirectional=True), dtype=torch.float32)
    api.save(model, tmp_path / "model")
    found = api.parity(model, model, tmp_path / "model", series())
    assert found.passed
    assert found.checks[1].worst is None
    assert "bidirectional" in found.checks[1].why_null


def test_a_model_is_saved_loaded_and_verified(model, tmp_path):
    api.save(model, tmp_path / "model")
    assert model_digest(api.load(tmp_path / "model")) == model_digest(model)
    assert all(check.passed for check in api.verify(tmp_path / "model"))


def test_data_takes_the_order_of_the_models_classes(model, tmp_path):
    save_npz(data(), tmp_path / "data.npz")
    turned = make_model(Kind("s5"), dtype=torch.float32, classes=CLASSES[::-1])
    plain = api.load_data(tmp_path / "data.npz", model)
    other = api.load_data(tmp_path / "data.npz", turned)
    assert other.classes == CLASSES[::-1]
    assert torch.equal(other.split("test").y, 3 - plain.split("test").y)


def test_data_loads_without_a_model(tmp_path):
    save_npz(data(), tmp_path / "data.npz")
    loaded = api.load_data(tmp_path / "data.npz")
    assert {name: len(part) for name, part in loaded.splits.items()} == dict.fromkeys(SPLITS, 24)


def test_the_seed_of_the_data_draws_its_splits(tmp_path):
    part = series(count=80)
    np.savez(tmp_path / "data.npz", x=part.x.numpy(), y=part.y.numpy())
    first, again, other = (
        api.load_data(tmp_path / "data.npz", seed=seed).sha256 for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"classes": CLASSES[:3]}, DataError),
        ({"channels": 3}, DataError),
        ({"channels": None, "vocabulary": 5}, DataError),
        ({"task": "regression", "classes": ()}, DataError),
    ],
    ids=str,
)
def test_data_that_does_not_fit_the_model_is_refused(tmp_path, changes, error):
    save_npz(data(), tmp_path / "data.npz")
    given = {"classes": CLASSES, **changes}
    outputs = len(given["classes"]) or 1
    model = make_model(Kind("s5"), dtype=torch.float32, outputs=outputs, **given)
    with pytest.raises(error):
        api.load_data(tmp_path / "data.npz", model)


def test_a_split_that_is_needed_must_be_there(tmp_path):
    only = {"test": series()}
    save_npz(data(splits=only), tmp_path / "data.npz")
    with pytest.raises(DataError, match="selection"):
        api.load_data(tmp_path / "data.npz", needs=("selection", "test"))
    assert set(api.load_data(tmp_path / "data.npz", needs=("test",)).splits) == {"test"}
    with pytest.raises(InputError, match="tset"):
        api.load_data(tmp_path / "data.npz", needs=("tset",))


@pytest.mark.parametrize("spec", ["nothing.npz", "embedded:nothing", "data.bin"])
def test_data_that_is_not_there_is_refused(spec):
    with pytest.raises(InputError):
        api.load_data(spec)
