"""On a trained model: what a good criterion keeps and magnitude destroys, under one semantics."""

import copy

import pytest

from ssmith import artefact, data
from ssmith.artefact.configs import is_language_model, read_any_config
from ssmith.evaluate.perplexity import window_losses
from ssmith.jobs.selective import SelectiveConfig, prune_selective_

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def trained():
    specs = [artefact.EMBEDDED + name for name in artefact.embedded_names()]
    shipped = [spec for spec in specs if is_language_model(read_any_config(artefact.locate(spec)))]
    if not shipped:
        pytest.skip("no trained language model comes along")
    model = artefact.load(shipped[0])
    text = data.load_text("stdlib:", vocabulary=256)
    return model, text.sample(4, 256, seed=0), text.windows(256, split="test", tail=False).first(24)


def loss(model, windows):
    return float(window_losses(model, windows).sum()) / windows.scored


@pytest.mark.parametrize(
    ("settings", "least", "most"),
    [
        ({"a_log": 0.5}, -0.01, 0.01),
        ({"a_log": 0.5, "method": "sparsessm"}, -0.01, 0.02),
        ({"a_log": 0.5, "method": "magnitude"}, 0.02, 10.0),
        ({"columns": 0.5}, -0.01, 0.02),
        ({"columns": 0.5, "method": "sparsessm-v1"}, 0.02, 10.0),
    ],
)
def test_half_goes_without_loss_or_not(trained, settings, least, most):
    """The loss in nats rises by about the relative increase of perplexity."""
    model, calibration, test = trained
    pruned = copy.deepcopy(model)
    prune_selective_(pruned, calibration, SelectiveConfig(**settings))
    assert least < loss(pruned, test) - loss(model, test) < most
