import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.tiny import Recurrence, sequences
from ssmith.core.errors import DataError, InputError, ModelError, NumericalError
from ssmith.core.sequences import Sequences
from ssmith.evaluation import TASKS, Outcomes, default_task, evaluate, named_task, predict
from ssmith.evaluation.metrics import ACCURACY, PERPLEXITY, RMSE, Metric
from ssmith.evaluation.running import double_copy


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), batch_size=st.integers(1, 12), shuffle=st.randoms())
def test_predict_does_not_depend_on_batch_size_or_order(seed, batch_size, shuffle):
    model, part = double_copy(Recurrence(seed=seed)), sequences(seed=seed)
    alone = torch.cat([predict(model, part.take(torch.tensor([i]))) for i in range(len(part))])
    torch.testing.assert_close(predict(model, part, batch_size), alone, rtol=0, atol=1e-13)
    order = list(range(len(part)))
    shuffle.shuffle(order)
    index = torch.tensor(order)
    shuffled = predict(model, part.take(index), batch_size)
    torch.testing.assert_close(shuffled, alone[index], rtol=0, atol=1e-13)


def test_predict_restores_every_mode_and_needs_no_gradient():
    model = Recurrence()
    model.train()
    model.drop.eval()
    outputs = predict(model, sequences())
    assert model.training
    assert not model.drop.training
    assert not outputs.requires_grad


def test_predict_switches_dropout_off():
    model = Recurrence().train()
    assert torch.equal(predict(model, sequences()), predict(model, sequences()))


def test_predict_restores_modes_after_a_failure():
    model = Recurrence(channels=5).train()
    with pytest.raises(RuntimeError):
        predict(model, sequences(channels=2))
    assert model.training
    assert model.drop.training


def test_predict_takes_one_pass_per_batch():
    model = Recurrence()
    predict(model, sequences(count=10), batch_size=4)
    assert model.calls == 3


def test_predict_accepts_tokens():
    class Tokens(torch.nn.Module):
        def forward(self, x, lengths=None):
            assert x.dtype == torch.int64
            return torch.nn.functional.one_hot(x[:, 0], 4).double()

    part = Sequences(
        x=torch.tensor([[3, 0], [1, 0]]), lengths=torch.tensor([1, 2]), y=torch.tensor([3, 1])
    )
    assert evaluate(Tokens(), part, "accuracy").value == 1.0


def test_predict_refuses_what_cannot_be_predicted():
    part = sequences()
    with pytest.raises(InputError, match="batch_size is 0"):
        predict(Recurrence(), part, 0)
    with pytest.raises(DataError, match="no row"):
        predict(Recurrence(), part.take(torch.tensor([], dtype=torch.int64)))
    with pytest.raises(ModelError, match="shape"):
        predict(_Flat(), part)


class _Flat(torch.nn.Module):
    def forward(self, x, lengths=None):
        return x[:, 0, 0]


def test_predict_reports_outputs_that_are_not_finite():
    model = Recurrence()
    with torch.no_grad():
        model.C.fill_(math.inf)
    with pytest.raises(NumericalError, match="10 of 10"):
        predict(model, sequences())


def seen(name, outputs, y):
    return TASKS[name].of_outputs(outputs, y).numerator.tolist()


def test_worked_numbers():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([0, 0, 0])
    # The tie goes to the first class.
    assert seen("accuracy", logits, y) == [1.0, 1.0, 0.0]
    expected = [math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.e)]
    assert seen("cross-entropy", logits, y) == pytest.approx(expected, abs=1e-12)

    outputs = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    targets = torch.tensor([[[0.0], [5.0]], [[0.0], [1.0]]])
    assert seen("mean absolute error", outputs, targets) == [2.0, 0.5]
    squares = TASKS["rmse"].of_outputs(outputs, targets)
    assert squares.numerator.tolist() == [5.0, 0.5]
    assert squares.numerator.dtype == torch.float64
    assert RMSE.value(squares) == pytest.approx(math.sqrt(2.75))


def test_a_metric_is_a_link_of_a_ratio_of_sums():
    outcomes = Outcomes(
        numerator=torch.tensor([1.0, 2.0]).double(), weight=torch.tensor([3.0, 1.0]).double()
    )
    assert PERPLEXITY.value(outcomes) == pytest.approx(math.exp(0.75))
    assert Metric(name="share", higher_is_better=True).value(outcomes) == 0.75
    assert outcomes.total == 4
    assert PERPLEXITY.loss(4.0, 5.0) == 0.25
    with pytest.raises(InputError, match="link is 'cube'"):
        Metric(name="odd", higher_is_better=True, link="cube")


def test_a_single_target_may_have_no_axis():
    values = seen("mean absolute error", torch.tensor([[1.0], [2.0]]), torch.tensor([1.5, 2]))
    assert values == [0.5, 0.0]


def test_loss_has_one_sign_for_every_direction():
    assert ACCURACY.loss(0.9, 0.8) == pytest.approx(0.1)
    assert RMSE.loss(1.0, 1.5) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "outputs", "y"),
    [
        ("accuracy", torch.zeros(2, 2), torch.tensor([0, 2])),
        ("accuracy", torch.zeros(2, 2), torch.tensor([-1, 0])),
        ("accuracy", torch.zeros(2, 2), torch.tensor([0.0, 1.0])),
        ("cross-entropy", torch.zeros(2, 2), torch.tensor([0])),
        ("rmse", torch.zeros(2, 2), torch.zeros(2, 3)),
        # Broadcasting would silently compare each target with each output.
        ("rmse", torch.zeros(2, 2), torch.zeros(2)),
    ],
)
def test_targets_that_do_not_fit_are_refused(name, outputs, y):
    with pytest.raises(DataError):
        TASKS[name].of_outputs(outputs, y)


def test_default_and_named_tasks():
    assert default_task("classification").metric is ACCURACY
    assert default_task("regression") is default_task("forecast") is TASKS["mean absolute error"]
    assert named_task("rmse").metric is RMSE
    assert named_task("MAE") is named_task("mean_absolute error") is TASKS["mean absolute error"]
    with pytest.raises(InputError, match="accuracy"):
        named_task("f1")
    with pytest.raises(InputError, match="no metric 'accuracy' for regression"):
        named_task("accuracy", "regression")
