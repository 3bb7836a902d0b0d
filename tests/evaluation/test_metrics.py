import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.tiny import Recurrence, sequences
from ssmith.core.errors import DataError, InputError, ModelError, NumericalError
from ssmith.core.sequences import Sequences
from ssmith.evaluation.metrics import (
    ACCURACY,
    CROSS_ENTROPY,
    MEAN_ABSOLUTE_ERROR,
    RMSE,
    default_metric,
    find_metric,
    predict,
)
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
    assert ACCURACY.aggregate(ACCURACY.per_sequence(predict(Tokens(), part), part.y)) == 1.0


def test_predict_refuses_what_cannot_be_predicted():
    part = sequences()
    with pytest.raises(InputError, match="batch size is 0"):
        predict(Recurrence(), part, 0)
    with pytest.raises(DataError, match="no sequence"):
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


def test_worked_numbers():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([0, 0, 0])
    # The tie goes to the first class.
    assert ACCURACY.per_sequence(logits, y).tolist() == [1.0, 1.0, 0.0]
    expected = [math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.e)]
    assert CROSS_ENTROPY.per_sequence(logits, y).tolist() == pytest.approx(expected, abs=1e-12)

    outputs = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    targets = torch.tensor([[[0.0], [5.0]], [[0.0], [1.0]]])
    assert MEAN_ABSOLUTE_ERROR.per_sequence(outputs, targets).tolist() == [2.0, 0.5]
    squares = RMSE.per_sequence(outputs, targets)
    assert squares.tolist() == [5.0, 0.5]
    assert squares.dtype == torch.float64
    assert RMSE.aggregate(squares) == pytest.approx(math.sqrt(2.75))


def test_a_single_target_may_have_no_axis():
    values = MEAN_ABSOLUTE_ERROR.per_sequence(torch.tensor([[1.0], [2.0]]), torch.tensor([1.5, 2]))
    assert values.tolist() == [0.5, 0.0]


def test_loss_has_one_sign_for_every_direction():
    assert ACCURACY.loss(0.9, 0.8) == pytest.approx(0.1)
    assert RMSE.loss(1.0, 1.5) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("metric", "outputs", "y"),
    [
        (ACCURACY, torch.zeros(2, 2), torch.tensor([0, 2])),
        (ACCURACY, torch.zeros(2, 2), torch.tensor([-1, 0])),
        (ACCURACY, torch.zeros(2, 2), torch.tensor([0.0, 1.0])),
        (CROSS_ENTROPY, torch.zeros(2, 2), torch.tensor([0])),
        (RMSE, torch.zeros(2, 2), torch.zeros(2, 3)),
        # Broadcasting would silently compare each target with each output.
        (RMSE, torch.zeros(2, 2), torch.zeros(2)),
    ],
)
def test_targets_that_do_not_fit_are_refused(metric, outputs, y):
    with pytest.raises(DataError):
        metric.per_sequence(outputs, y)


def test_default_and_named_metrics():
    assert default_metric("classification") is ACCURACY
    assert default_metric("regression") is MEAN_ABSOLUTE_ERROR
    assert default_metric("forecast") is MEAN_ABSOLUTE_ERROR
    assert find_metric("rmse") is RMSE
    with pytest.raises(InputError, match="accuracy"):
        find_metric("f1")
