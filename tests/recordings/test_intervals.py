"""Steps of uneven width: how long each lasted is read, as Δ where the family can."""

import numpy as np
import pytest
import torch

from ssmith import adapters
from ssmith.core.errors import DataError, InputError
from ssmith.core.preparation import INTERVAL, PrepareConfig
from ssmith.families import LTIOptions, SequenceConfig, SequenceModel
from ssmith.ops.diagonal import varied_scan
from ssmith.recordings import new_rows, prepare, prepared_as
from ssmith.serving import predict, stream

HOW = {"task": "classification", "sequence": "machine", "time": "ts", "label": ("state",)}


@pytest.fixture
def uneven(tmp_path):
    draw = np.random.default_rng(0)
    lines = ["machine,ts,x,state"]
    for machine in range(12):
        times = np.cumsum(draw.uniform(0.2, 3, 20))
        pace = 0.5 + 0.7 * (machine % 2)
        lines += [f"m{machine},{t:.4f},{np.sin(pace * t):.4f},{'ab'[machine % 2]}" for t in times]
    path = tmp_path / "uneven.csv"
    path.write_text("\n".join(lines))
    return path


def model_of(made, **settings):
    torch.manual_seed(0)
    config = SequenceConfig(
        family="s5", width=6, states=(4, 4), channels=2, outputs=2, classes=("a", "b"), **settings
    )
    return SequenceModel(config, preparation=made.preparation).eval()


def test_a_scan_that_varies_is_its_definition():
    draw = torch.Generator().manual_seed(0)
    A_bar, Bu = (torch.randn(2, 7, 3, dtype=torch.complex128, generator=draw) for _ in range(2))
    state = torch.randn(2, 3, dtype=torch.complex128, generator=draw)
    found = varied_scan(A_bar, Bu, state)
    for step in range(7):
        state = A_bar[:, step] * state + Bu[:, step]
        torch.testing.assert_close(found[:, step], state)


def test_time_passes_as_if_the_held_input_had_been_repeated():
    # Of zero-order hold, one step of three widths is three steps of one with the same input.
    torch.manual_seed(0)
    config = SequenceConfig(
        family="s5", width=4, states=(3,), channels=2, outputs=2, intervals=True, pooling="last"
    )
    layer = SequenceModel(config).double().blocks[0].ssm
    u = torch.randn(1, 2, 4, dtype=torch.float64)
    long = layer.varied(u, torch.tensor([[1.0, 3.0]], dtype=torch.float64))[1]
    short = layer.scan(u[:, [0, 1, 1, 1]])[1]
    torch.testing.assert_close(long, short)


def test_uneven_steps_are_measured_and_even_ones_are_not(uneven, tmp_path):
    made = prepare(uneven, PrepareConfig(**HOW))
    assert made.preparation.config.intervals == "measured"
    assert made.preparation.names == ("x", INTERVAL)
    assert "uneven-steps" in [item.kind for item in made.findings]
    part = made.data.split("train")
    # The first step of a recording is as long as usual.
    assert bool((part.x[:, 0, 1] == 1).all()) and float(part.x[..., 1].median()) == 1
    assert prepared_as(made.preparation, uneven).sha256 == made.data.sha256
    even = prepare(uneven, PrepareConfig(**HOW, intervals="even"))
    assert even.preparation.names == ("x",)
    assert prepare(uneven, PrepareConfig(**HOW, step=1.0)).preparation.names == ("x",)
    with pytest.raises(InputError, match="without a time"):
        PrepareConfig(**{**HOW, "time": None}, intervals="measured")


def test_step_by_step_with_its_times_it_is_the_whole(uneven, tmp_path):
    made = prepare(uneven, PrepareConfig(**HOW))
    model = model_of(made, intervals=True)
    whole = predict(model, uneven)
    rows = [line.split(",") for line in uneven.read_text().splitlines()[1:]]
    served = stream(model)
    for place, row in enumerate(rows):
        if place == 30:
            served.save(tmp_path / "state")
            served = stream(model, state=tmp_path / "state")
        said = served.step([[float(row[2])]], [row[0]], [float(row[1])])
        if place % 20 == 19:
            assert (said.outputs[0] - whole.outputs[place // 20]).abs().max() < 1e-6
    with pytest.raises(DataError, match="a time for each step"):
        served.step([[1.0]], ["m0"])
    with pytest.raises(DataError, match="before its last step"):
        served.step([[1.0]], ["m0"], [0.0])
    assert new_rows(made.preparation, uneven).rows.x.shape[2] == 2


def test_padding_may_hold_anything_and_adapters_are_heeded(uneven, tmp_path):
    made = prepare(uneven, PrepareConfig(**HOW))
    model = model_of(made, intervals=True).eval()
    with torch.no_grad():
        x, lengths = made.data.split("train").x[:4], torch.tensor([20, 13, 7, 20])
        nothing = torch.full((4, 9, 2), torch.nan)
        found = model(torch.cat([x, nothing], dim=1), lengths)
        alone = torch.cat([model(x[i : i + 1, :n]) for i, n in enumerate(lengths.tolist())])
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)
        for method in ("state-offset-y", "initial-state"):
            adapters.attach_(model, adapters.from_plain(method), name="one")
            for value in adapters.state(model, "one").values():
                value.fill_(0.5)
            tuned = model(x)
            assert (tuned - model(x, torch.full((4,), 20))).abs().max() < 1e-5
            with adapters.disabled(model):
                assert (tuned - model(x)).abs().max() > 1e-3
            # Step by step from where a sequence starts, offsets are heeded as well.
            state = model.initial_state(4)
            for step in range(20):
                answer, state = model.step(x[:, step], state)
            torch.testing.assert_close(answer, tuned, atol=1e-5, rtol=0)
            adapters.detach_(model, "one")


def test_only_what_can_takes_it_as_its_step():
    for wrong in ({"family": "s4d"}, {"options": LTIOptions(bidirectional=True)}, {"channels": 1}):
        settings = {"family": "s5", "width": 4, "states": (2,), "channels": 2, "outputs": 2}
        with pytest.raises(InputError, match="intervals"):
            SequenceConfig(**{**settings, **wrong}, intervals=True)
