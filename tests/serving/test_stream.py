"""A stream: whole-sequence answers step by step, gaps, sources that come and go, states on disk."""

import json

import numpy as np
import pytest
import torch

from helpers.models import Kind, make_input, make_model
from helpers.tiny_mamba import tiny, tokens
from ssmith.core.errors import ArtefactError, DataError, InputError, UnsupportedError
from ssmith.core.preparation import Preparation, PrepareConfig, Scaled
from ssmith.evaluation.wishes import DecisionConfig
from ssmith.families import SequenceConfig, SequenceModel
from ssmith.families.heads import HeadConfig, with_head
from ssmith.serving import StreamConfig, stream
from ssmith.serving.decision import kept_decision
from ssmith.serving.lines import LineServer

CLOSE = 1e-6
NAN = float("nan")


def s5(**settings):
    return make_model(Kind("s5"), **settings)


def whole(model, x):
    with torch.no_grad():
        return model(x)


def test_sources_come_go_and_pause_and_each_is_its_own_sequence():
    model = s5()
    x = make_input(model, batch=40, length=9)
    served, done = stream(model), torch.zeros(40, dtype=torch.int64)
    draw = torch.Generator().manual_seed(0)
    while int(done.min()) < 9:
        now = (torch.rand(40, generator=draw) < 0.4) & (done < 9)
        index = now.nonzero().flatten()[torch.randperm(int(now.sum()), generator=draw)]
        if not len(index):
            continue
        said = served.step(x[index, done[index]], [f"m{place}" for place in index])
        done[index] += 1
        assert torch.equal(said.steps, done[index]) and bool(said.taken.all())
        for place, out in zip(index, said.outputs, strict=True):
            wanted = whole(model, x[place : place + 1, : int(done[place])])[0]
            assert (out - wanted).abs().max() < CLOSE
    assert set(served.sources) == {f"m{place}" for place in range(40)}


def test_one_source_needs_no_name():
    model = s5()
    x = make_input(model, batch=1, length=5)
    served = stream(model)
    for step in x[0]:
        said = served.step(step.tolist())
    assert (said.outputs - whole(model, x)).abs().max() < CLOSE


def test_a_gap_holds_the_last_value_and_says_so():
    model = s5()
    x = make_input(model, batch=1, length=6)
    gaps = x.clone()
    gaps[0, 2, 0] = NAN
    gaps[0, 3, 0] = float("inf")
    filled = x.clone()
    filled[0, 2:4, 0] = x[0, 1, 0]
    served = stream(model)
    said = [served.step(step) for step in gaps[0]]
    assert [one.held[0].tolist() for one in said] == [[t in (2, 3), False] for t in range(6)]
    assert (said[-1].outputs - whole(model, filled)).abs().max() < CLOSE


def test_before_a_channel_s_first_value_no_step_is_taken():
    model = s5()
    served = stream(model)
    first = served.step([1.0, NAN])
    assert (bool(first.taken[0]), int(first.steps[0])) == (False, 0)
    assert first.outputs.isnan().all()
    # What came meanwhile is not forgotten.
    second = served.step([NAN, 2.0])
    wanted = whole(model, torch.tensor([[[1.0, 2.0]]], dtype=torch.float64))
    assert second.held.tolist() == [[True, False]]
    assert (second.outputs - wanted).abs().max() < CLOSE


def test_gaps_may_be_skipped_or_refused():
    model = s5()
    x = make_input(model, batch=1, length=5)
    skipping = stream(model, StreamConfig(missing="skip"))
    for place, step in enumerate(x[0]):
        said = skipping.step(step)
        if place == 2:
            assert not bool(skipping.step([NAN, 1.0]).taken[0])
    assert (said.outputs - whole(model, x)).abs().max() < CLOSE
    refusing = stream(model, StreamConfig(missing="refuse"))
    refusing.step(x[:1, 0], ["a"])
    with pytest.raises(DataError, match="channel 1 of b is missing"):
        refusing.step([[1.0, 1.0], [1.0, NAN]], ["a", "b"])
    assert refusing.sources == ("a",)
    said = refusing.step(x[:1, 1], ["a"])
    assert (said.outputs - whole(model, x[:, :2])).abs().max() < CLOSE


def test_a_source_begins_anew_after_its_window_or_when_it_is_forgotten():
    model = s5()
    x = make_input(model, batch=1, length=7)
    served = stream(model, StreamConfig(window=3))
    said = [served.step(step) for step in x[0]]
    assert [int(one.steps[0]) for one in said] == [1, 2, 3, 1, 2, 3, 1]
    assert (said[5].outputs - whole(model, x[:, 3:6])).abs().max() < CLOSE
    served.forget([*served.sources, "never seen"])
    again = served.step(x[0, 0])
    assert (again.outputs - said[0].outputs).abs().max() < CLOSE


def test_tokens_are_stepped_too_and_checked():
    model = tiny("mamba")
    ids = tokens(3, 6)
    served = stream(model)
    for t in range(6):
        said = served.step(ids[:, t], ["a", "b", "c"])
    with torch.no_grad():
        wanted = model(ids).logits[:, -1]
    assert (said.outputs - wanted).abs().max() < 1e-5
    for bad in ([61], [-1], [0.5]):
        with pytest.raises(DataError, match="0 to 60"):
            served.step(bad, ["a"])


def test_what_is_no_step_is_refused():
    served = stream(s5())
    for bad in ([1.0], [[1.0, 2.0, 3.0]], ["x", "y"], {}):
        with pytest.raises(DataError, match="2 numbers"):
            served.step(bad, ["a"])
    with pytest.raises(InputError, match="each source once"):
        served.step([[1.0, 2.0]] * 2, ["a", "a"])
    assert served.sources == ()
    with pytest.raises(UnsupportedError, match="bidirectional"):
        stream(make_model(Kind("s5", bidirectional=True)))


def headed():
    model = with_head(tiny("mamba2"), HeadConfig(outputs=2, channels=2), torch.Generator())
    return model.eval()


@pytest.mark.parametrize("make", [s5, lambda: s5(dtype=torch.float32), headed])
def test_a_state_is_saved_and_gone_on_from(make, tmp_path):
    model = make()
    x = torch.randn(5, 8, 2, generator=torch.Generator().manual_seed(0))
    names = [f"m{place}" for place in range(5)]
    one = stream(model, StreamConfig(window=6))
    for t in range(4):
        one.step(x[:, t], names)
    one.save(tmp_path / "state")
    two = stream(model, StreamConfig(window=6), state=tmp_path / "state")
    assert two.sources == one.sources
    x[:, 4, 0] = NAN
    for t in range(4, 8):
        first, second = one.step(x[:, t], names), two.step(x[:, t], names)
        assert torch.equal(first.outputs, second.outputs)
        assert torch.equal(first.held, second.held) and torch.equal(first.steps, second.steps)


def test_a_state_without_a_source_is_one(tmp_path):
    model = s5()
    stream(model).save(tmp_path / "state")
    assert stream(model, state=tmp_path / "state").sources == ()


def test_a_state_of_something_else_or_a_damaged_one_is_refused(tmp_path):
    model, path = s5(), tmp_path / "state"
    served = stream(model)
    served.step([1.0, 2.0])
    served.save(path)
    with pytest.raises(ArtefactError, match="model"):
        stream(s5(seed=1), state=path)
    with pytest.raises(ArtefactError, match="missing"):
        stream(model, StreamConfig(missing="skip"), state=path)
    with pytest.raises(ArtefactError, match="window"):
        stream(model, StreamConfig(window=4), state=path)
    content = path.read_bytes()
    for place in (len(content) - 3, len(content) // 2):
        bad = bytearray(content)
        bad[place] ^= 1
        path.write_bytes(bytes(bad))
        with pytest.raises(ArtefactError):
            stream(model, state=path)
    path.write_bytes(content[:40])
    with pytest.raises(ArtefactError, match="no state of a stream"):
        stream(model, state=path)
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    facts = json.loads(header["__metadata__"]["facts"])
    facts["sources"] = ["other"]
    header["__metadata__"]["facts"] = json.dumps(facts)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    with pytest.raises(ArtefactError, match="was changed"):
        stream(model, state=path)


def test_thousands_of_sources_at_once():
    model = s5(dtype=torch.float32)
    x = np.random.default_rng(0).normal(size=(3000, 3, 2)).astype(np.float32)
    names = list(map(str, range(3000)))
    served = stream(model)
    for t in range(3):
        said = served.step(x[:, t], names)
    wanted = whole(model, torch.from_numpy(x))
    assert (said.outputs - wanted).abs().max() < 2e-5


def foretelling(score="forecast", horizon=(1, 3), pooling="last"):
    """A model of anomalies in channels b and c of three, not trained."""
    config = PrepareConfig(
        task="anomaly", label=("c", "b"), channels=("a", "b", "c"), window=4, horizon=horizon,
        score=score,
    )  # fmt: skip
    scaled = [Scaled(name=name, mean=5.0 * i, std=1.0 + i, low=-9, high=9)
              for i, name in enumerate("abc")]  # fmt: skip
    names = [f"{name} +{ahead}" for ahead in horizon for name in "cb"]
    targets = [Scaled(name=name, mean=2.0, std=3.0 + i, low=-9, high=9)
               for i, name in enumerate(names)]  # fmt: skip
    preparation = Preparation(
        config=config, channels=tuple(scaled), targets=tuple(targets),
        thresholds={"anomaly score": 1.0},
    )  # fmt: skip
    sizes = SequenceConfig(
        family="s5", width=6, states=(4,), channels=3, outputs=len(names), pooling=pooling,
        task="regression",
    )  # fmt: skip
    return SequenceModel(sizes, torch.Generator().manual_seed(0), preparation).eval()


def test_a_score_is_how_far_what_came_is_from_what_was_forecast_of_it(tmp_path):
    model = foretelling()
    x = 4 * torch.randn(5, 12, 3, generator=torch.Generator().manual_seed(2)).double().numpy()
    scaled = torch.from_numpy(model.preparation.scaled(x))
    served, done = stream(model), np.zeros(5, dtype=int)
    spread = [target.std for target in model.preparation.targets]
    draw = np.random.default_rng(0)
    while done.min() < 12:
        if int(done.sum()) == 30:
            served.save(tmp_path / "state")
            served = stream(model, state=tmp_path / "state")
        now = draw.permutation(np.flatnonzero((draw.random(5) < 0.5) & (done < 12)))
        if not len(now):
            continue
        said = served.step(x[now, done[now]], [f"m{place}" for place in now])
        for place, score in zip(now, said.scores, strict=True):
            step = done[place] - 3
            if step < 0:
                assert score.isnan()
                continue
            outputs = whole(model, scaled[place : place + 1, : step + 1]).double().numpy()
            given = model.preparation.targets_back(outputs)[0]
            came = np.concatenate([x[place, step + ahead][[2, 1]] for ahead in (1, 3)])
            wanted = np.sqrt((((given - came) / spread) ** 2).mean())
            assert abs(score - wanted) < CLOSE
        done[now] += 1


def test_alarms_wait_for_as_many_steps_as_windows_have():
    model = foretelling(horizon=(1,))
    lines = ["a,b,c", *["0,900,0"] * 8]
    server = LineServer(stream=stream(model), decision=kept_decision(model, DecisionConfig()))
    said = list(server.answers(lines))
    assert [item["anomaly"] for item in said] == [None] * 4 + [True] * 4
    assert said[0]["anomaly score"] is None and said[1]["anomaly score"] > 1
    with pytest.raises(UnsupportedError, match="reconstruction"):
        stream(foretelling(score="reconstruction", horizon=(1,)))
