"""One reader of tolerances: shares, points, amounts with a unit; what is impossible is refused."""

import math

import pytest

from ssmith.core.errors import InputError
from ssmith.core.threshold import Scale, Threshold

ACCURACY = Scale(metric="accuracy", share=True, dense=0.9, naive=0.1, answer="the usual class")
MAE = Scale(metric="mean absolute error", dense=0.002, naive=0.012, answer="the median")
PERPLEXITY = Scale(metric="perplexity", relative=True, dense=20.0, naive=400.0)
OWN = Scale(metric="spread", dense=-4.0)


@pytest.mark.parametrize(
    ("given", "scale", "loss"),
    [
        (0.005, ACCURACY, 0.005),
        ("0.5 points", ACCURACY, 0.005),
        ("1 point", ACCURACY, 0.01),
        # Of what the model is better than the most frequent class: 0.8.
        ("1%", ACCURACY, 0.008),
        ("0.02 absolute", ACCURACY, 0.02),
        # A target in milli-units: half a per cent of 0.010 and not 0.005 of the target's unit.
        (0.005, MAE, 0.00005),
        ("0.5 %", MAE, 0.00005),
        ("0.0001 absolute", MAE, 0.0001),
        ("1e-4 Mean absolute  error", MAE, 0.0001),
        (0.01, PERPLEXITY, 0.2),
        ("1 percent", PERPLEXITY, 0.2),
        ("900 %", PERPLEXITY, 180.0),
        ("2 perplexity", PERPLEXITY, 2.0),
        ("5%", OWN, 0.2),
        ("3 absolute", OWN, 3.0),
        (0, OWN, 0.0),
    ],
)
def test_a_threshold_is_an_amount_of_its_metric(given, scale, loss):
    found = Threshold.read(given)
    assert found.loss(scale) == pytest.approx(loss, rel=1e-12, abs=1e-15)
    assert Threshold.read(found) is found


@pytest.mark.parametrize(
    "given",
    [-0.1, math.nan, math.inf, True, None, "", "one", "-1 %", "0,5 %", "nan", [0.1]],
)
def test_what_is_no_threshold_is_refused_by_name(given):
    with pytest.raises(InputError, match=r"own_max_loss is .*'1 %', '0.5 points'"):
        Threshold.read(given, "own_max_loss")


def test_a_plain_number_of_one_or_more_names_what_may_be_meant():
    with pytest.raises(InputError, match=r"max_loss is 5, which would be 500 %.*'5 points'"):
        Threshold.read(5)
    with pytest.raises(InputError, match="which would be 100 %"):
        Threshold.read("1")


@pytest.mark.parametrize(
    ("given", "scale", "words"),
    [
        ("1 point", MAE, "a share below 1, '… %', '… absolute' or '… mean absolute error'"),
        ("1 nats", ACCURACY, "'… points'"),
        ("100 %", MAE, "nothing would be refused"),
        ("100 points", ACCURACY, "nothing would be refused"),
        ("1 absolute", ACCURACY, "nothing would be refused"),
    ],
)
def test_a_unit_that_says_nothing_of_the_metric_is_refused(given, scale, words):
    with pytest.raises(InputError, match=words):
        Threshold.read(given).loss(scale)


def test_the_reading_is_said_before_and_after_the_model_is_measured():
    before = Scale(metric="mean absolute error", naive=0.012, answer="the median")
    assert Threshold.read(0.005).said(before) == (
        "0.5 % of the distance between the model's mean absolute error and that of the median "
        "(0.012)"
    )
    assert Threshold.read(0.005).said(MAE).endswith("error (0.002) and that of the median "
                                                    "(0.012): 5e-05")  # fmt: skip
    assert Threshold.read(0.005).said(ACCURACY) == "0.5 points of accuracy"
    assert Threshold.read("1 point").said(ACCURACY) == "1 point of accuracy"
    assert Threshold.read("1%").said(PERPLEXITY) == "1 % of the model's perplexity (20): 0.2"
    assert Threshold.read("3 absolute").said(OWN) == "3 of spread, in its own unit"
