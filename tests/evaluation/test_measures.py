"""Measures against scikit-learn's, and against integrals and sums written out."""

import numpy as np
import pytest
from sklearn import metrics

from ssmith.evaluation.measures import (
    auprc,
    auroc,
    crps,
    false_alarms,
    of_classes,
    of_labels,
    of_numbers,
    pinball,
)

RNG = np.random.default_rng(0)


def named(found):
    return {item.name: item for item in found}


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_ranks_with_and_without_ties_as_scikit_learn_has_them(digits):
    truth = RNG.random(200) < 0.2
    score = np.round(RNG.normal(size=200) + truth, digits)
    assert auroc(score, truth) == pytest.approx(metrics.roc_auc_score(truth, score))
    assert auprc(score, truth) == pytest.approx(metrics.average_precision_score(truth, score))
    rates = [(score >= at) for at in np.unique(score)]
    want = min(rate[~truth].mean() for rate in rates if rate[truth].mean() >= 0.9)
    assert false_alarms(score, truth) == pytest.approx(want)


def test_two_classes_of_which_one_is_rare():
    y = (RNG.random(300) < 0.1).astype(int)
    scores = RNG.normal(size=(300, 2))
    scores[:, 1] += 2 * y
    found = named(of_classes(scores, y, ("fine", "failing")))
    said = scores.argmax(1)
    assert found["balanced accuracy"].value == pytest.approx(
        metrics.balanced_accuracy_score(y, said)
    )
    assert found["F1, mean over classes"].value == pytest.approx(
        metrics.f1_score(y, said, average="macro")
    )
    area = found["AUPRC of 'failing'"]
    assert area.value == pytest.approx(
        metrics.average_precision_score(y, scores[:, 1] - scores[:, 0])
    )
    assert area.naive == pytest.approx(y.mean())


def test_a_model_that_always_names_the_usual_class_is_worth_nothing():
    y = np.array([0] * 42 + [1])
    found = named(of_classes(np.tile([1.0, 0.0], (43, 1)), y, ("fine", "failing")))
    for name in ("balanced accuracy", "F1, mean over classes", "AUROC of 'failing'"):
        assert found[name].value == pytest.approx(found[name].naive), name
    assert found["false alarms at recall 0.9 of 'failing'"].value == 1.0


def test_many_classes_and_labels_together():
    y = RNG.integers(0, 4, 200)
    scores = RNG.normal(size=(200, 4)) + 2 * np.eye(4)[y]
    found = named(of_classes(scores, y, "abcd"))
    odds = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert found["AUROC, mean over classes"].value == pytest.approx(
        metrics.roc_auc_score(y, odds, multi_class="ovr")
    )
    truth = (RNG.random((200, 3)) < 0.3).astype(float)
    score = RNG.normal(size=(200, 3)) + truth
    found = named(of_labels(score, truth))
    assert found["F1, mean over labels"].value == pytest.approx(
        metrics.f1_score(truth, score > 0, average="macro")
    )
    assert found["AUROC, mean over labels"].value == pytest.approx(
        metrics.roc_auc_score(truth, score)
    )


def test_errors_stand_beside_the_best_naive_answer():
    y = np.array([[1.0], [2.0], [3.0], [10.0]])
    given, last = y + np.array([[1], [-1], [1], [-1]]), y - 2
    found = named(of_numbers(given, y, naive=[("the last value", last)]))
    assert (found["MAE"].value, found["MAE"].naive, found["MAE"].answer) == (
        1.0, 2.0, "the last value",
    )  # fmt: skip
    assert found["MASE"].value == 0.5 and found["RMSE"].value == 1.0
    plain = named(of_numbers(given, y))
    assert plain["MAE"].naive == np.abs(y - 2.5).mean() and "MASE" not in plain


def test_pinball_and_crps_by_their_definitions():
    y, quantile = RNG.normal(size=(50, 2)), RNG.normal(size=(50, 2))
    want = np.where(y > quantile, 0.1 * (y - quantile), 0.9 * (quantile - y)).mean()
    assert pinball(quantile, y, 0.1) == pytest.approx(want)
    residuals, errors = RNG.normal(size=(30, 2)), RNG.normal(size=(7, 2))
    pairs = np.abs(residuals[:, None] - residuals[None]).mean((0, 1))
    away = np.abs(residuals[:, None] - errors[None]).mean(0)
    assert crps(errors, residuals) == pytest.approx((away - pairs / 2).mean())
    assert crps(np.zeros((3, 1)), np.zeros((4, 1))) == 0
    assert metrics.mean_pinball_loss(y, quantile, alpha=0.1) == pytest.approx(want)
