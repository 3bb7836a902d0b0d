"""Times that targets are held to: of what is served, whatever the model."""

import pytest
import torch

from helpers.models import Kind, make_model
from helpers.tiny_mamba import tiny
from ssmith.core.errors import UnsupportedError
from ssmith.evaluation import times
from ssmith.evaluation.times import PROMPT, milliseconds_of

MODELS = {
    "s5": lambda: make_model(Kind("s5")), "s4d": lambda: make_model(Kind("s4d")),
    "mamba": lambda: tiny("mamba"), "mamba2": lambda: tiny("mamba2"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    """Run once what is timed, and leave its time out."""

    def once(one, other, *, seconds):
        assert one is other
        assert seconds > 0
        one()
        return type("Pair", (), {"medians": (1.0, 2.0)})()

    monkeypatch.setattr(times, "time_pair", once)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_goes_on_from_a_state_and_a_prompt_is_read_at_once(name):
    if name.startswith("mamba"):
        pytest.importorskip("transformers")
    model = MODELS[name]().eval()
    inputs = []
    layer = next(part for part in model.modules() if isinstance(part, torch.nn.Linear))
    layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].shape))
    assert milliseconds_of(model, "step_time") == 1000.0
    last = inputs[-1]
    assert PROMPT not in last
    inputs.clear()
    assert milliseconds_of(model, "prompt_time") == 1000.0
    assert inputs[-1][:2] == (1, PROMPT)


def test_another_network_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="Linear has no step or prompt"):
        milliseconds_of(torch.nn.Linear(2, 2), "step_time")
