"""Tasks: any network on any rows, with the user's own idea of what is good."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ssmith as sm
from evaluation.tiny import Recurrence, sequences
from ssmith.core.errors import DataError, InputError, ModelError, NumericalError
from ssmith.evaluation import outcomes_of

DICE = sm.Metric(name="dice", higher_is_better=True, counted="images", weighed="pixels")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 4))


@pytest.fixture
def data():
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(30, 3, generator=draw), torch.randint(4, (30,), generator=draw)
    return TensorDataset(x, y)


def right(network, data):
    with torch.no_grad():
        return (network.eval()(data.tensors[0]).argmax(1) == data.tensors[1]).double()


def test_any_network_on_a_loader_of_tuples(network, data):
    expected = float(right(network, data).mean())
    network.train()
    found = sm.evaluate(network, DataLoader(data, batch_size=7, shuffle=True), "accuracy")
    assert found.value == expected
    assert (found.method, found.count) == ("Wilson", 30)
    assert network.training


def test_rows_of_dicts_and_their_targets(data):
    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 1)

        def forward(self, pixels, label=None):
            return {"logits": self.head(pixels)}

    network = Pixels()
    x, y = data.tensors[0], data.tensors[0].sum(1)
    found = sm.evaluate(network, [{"pixels": x, "label": y}], "mae")
    with torch.no_grad():
        error = (network.head(x)[:, 0] - y).abs().mean()
    assert found.value == pytest.approx(float(error))


def test_a_task_of_numerators_and_weights_is_a_ratio_of_sums(network, data):
    def overlap(model, batch):
        x, _ = batch
        return model(x).relu().sum(1), 1 + x[:, 0].abs()

    rows = sm.rows(DataLoader(data, batch_size=4))
    task = sm.Task(metric=DICE, outcomes=overlap)
    found = sm.evaluate(network, rows, task, batch_size=3)
    with torch.no_grad():
        above, below = overlap(network.eval(), data.tensors)
    assert found.value == pytest.approx(float(above.double().sum() / below.double().sum()))
    assert found.weight == pytest.approx(float(below.double().sum()))
    assert "30 images" in str(found)
    assert sm.evaluate(network, rows, task, batch_size=30).value == pytest.approx(found.value)


def test_a_score_sees_what_the_network_returned(network, data):
    task = sm.Task(
        metric=sm.Metric(name="margin", higher_is_better=False),
        score=lambda outputs, targets: outputs.max(1).values - targets,
    )
    found = sm.evaluate(network, DataLoader(data, batch_size=30), task)
    with torch.no_grad():
        best = network.eval()(data.tensors[0]).max(1).values
    assert found.value == pytest.approx(float((best - data.tensors[1]).mean()), rel=1e-5)


def test_two_networks_are_compared_on_the_same_rows_of_a_shuffling_loader(network, data):
    other = nn.Linear(3, 4)
    found = sm.compare(network, other, DataLoader(data, batch_size=8, shuffle=True), "accuracy")
    first, second = right(network, data), right(other, data)
    assert found.agreement.only_before == int((first * (1 - second)).sum())
    assert found.agreement.only_after == int(((1 - first) * second).sum())
    same = sm.compare(network, network, DataLoader(data, batch_size=8), "cross-entropy")
    assert same.difference.value == same.difference.low == 0


def test_outcomes_come_in_the_order_of_the_rows():
    model, part = Recurrence(), sequences(count=20)
    task = sm.Task(
        metric=sm.Metric(name="steps", higher_is_better=True),
        outcomes=lambda model, batch: batch.lengths,
    )
    for size in (1, 6, 64):
        found = outcomes_of(task, model, part, batch_size=size)
        assert found.numerator.tolist() == part.lengths.tolist()


def test_an_exp_of_a_mean_is_a_task_of_anybody():
    metric = sm.Metric(name="geometric mean", higher_is_better=False, link="exp")
    task = sm.Task(metric=metric, outcomes=lambda model, batch: batch[:, 0].log())
    found = sm.evaluate(nn.Identity(), [torch.tensor([[1.0], [4.0]])], task)
    assert found.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("outcomes", "error", "message"),
    [
        (lambda model, batch: batch[0].sum(), InputError, r"shape \(\).*\(30,\), one number"),
        (lambda model, batch: batch[0], InputError, r"shape \(30, 3\)"),
        (
            lambda model, batch: batch[0][:, 0] * math.nan,
            NumericalError,
            "dice of row 0 of batches",
        ),
        (lambda model, batch: (batch[1], 0 * batch[1]), DataError, "no pixels in images"),
    ],
)
def test_tasks_that_answer_wrongly_are_refused(network, data, outcomes, error, message):
    with pytest.raises(error, match=message):
        sm.evaluate(network, [data.tensors], sm.Task(metric=DICE, outcomes=outcomes))


def test_what_is_missing_is_named(network, data):
    with pytest.raises(InputError, match="neither of outcomes and score"):
        sm.Task(metric=DICE)
    with pytest.raises(ModelError, match="Sequential does not say what it predicts"):
        sm.evaluate(network, [data.tensors])
    with pytest.raises(DataError, match="hold no targets"):
        sm.evaluate(network, [data.tensors[0]], "accuracy")
    with pytest.raises(InputError, match="perplexity of batches"):
        sm.evaluate(network, [data.tensors], "perplexity")
    with pytest.raises(InputError, match="batch_size is 0"):
        sm.evaluate(network, [data.tensors], "accuracy", batch_size=0)
