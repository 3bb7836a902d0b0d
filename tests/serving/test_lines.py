"""Lines in, answers out: tables and JSON, gaps, errors that do not end the stream."""

import json
import threading

import numpy as np
import pytest
import torch

from helpers.models import Kind, make_model
from ssmith.core.errors import DataError
from ssmith.core.preparation import Preparation, PrepareConfig, Scaled
from ssmith.evaluation.wishes import DecisionConfig
from ssmith.serving import stream
from ssmith.serving.decision import kept_decision
from ssmith.serving.lines import LineServer, waiting


def server(model, config=None):
    return LineServer(stream=stream(model, config), decision=kept_decision(model, DecisionConfig()))


def prepared(**settings):
    model = make_model(Kind("s5"), dtype=torch.float32, classes=("a", "b", "c", "d"))
    channels = (
        Scaled(name="hot", unit="°C", mean=50.0, std=10.0, low=20.0, high=80.0),
        Scaled(name="wet", mean=0.5, std=0.1, low=0.0, high=1.0),
    )
    config = PrepareConfig(
        task="classification", sequence="machine", time="ts", label=("state",), **settings
    )
    model.preparation = Preparation(config=config, channels=channels, classes=("a", "b", "c", "d"))
    return model


def test_a_table_is_matched_by_name_and_scaled():
    model = prepared(missing=(-999.0,))
    lines = [
        "wet;ts;machine;hot;other", "0,6;1;m1;70;x", "0,4;1;m2;30;x", "", ";2;m1;-999;x",
        "0.4;2;m2;300;y",
    ]  # fmt: skip
    said = list(server(model).answers(lines))
    assert [(one["line"], one["machine"], one["ts"], one["step"]) for one in said] == [
        (2, "m1", "1", 1), (3, "m2", "1", 1), (5, "m1", "2", 2), (6, "m2", "2", 2),
    ]  # fmt: skip
    rows = torch.tensor([[[2.0, 1.0], [2.0, 1.0]], [[-2.0, -1.0], [25.0, -1.0]]])
    with torch.no_grad():
        shares = model(rows).softmax(-1)
    for one, wanted in zip(said[2:], shares, strict=True):
        got = [one[f"p {name}"] for name in "abcd"]
        assert np.allclose(got, wanted, atol=1e-6)
        assert one["label"] == "abcd"[int(wanted.argmax())]
        assert one["probability"] == max(got)
    assert said[2]["held"] == ["hot", "wet"]
    assert said[3]["out of range"] == ["hot"]


def test_a_header_without_a_channel_ends_it():
    with pytest.raises(DataError, match="lacks hot"):
        list(server(prepared()).answers(["machine,wet", "m1,0.5"]))
    with pytest.raises(DataError, match="names of the columns"):
        list(server(prepared()).answers(["1,2", "3,4"]))


def test_a_bad_line_is_answered_and_the_rest_goes_on():
    model = make_model(Kind("s5"))
    served = server(model)
    lines = [
        '{"x": [1, 2]}', "rubbish", '{"x": [1]}', '{"x": ["a", 2]}', "[1, 2]", '{"y": 1}',
        '{"x": [null, 3]}', '{"sequence": "s", "x": [null, 3]}', '{"x": [true, 1]}',
    ]  # fmt: skip
    said = list(served.answers(lines))
    assert ["error" in one for one in said] == [
        False, True, True, True, True, True, False, False, True,
    ]  # fmt: skip
    assert said[6]["held"] == ["0"] and said[6]["step"] == 2
    assert said[7] == {"line": 8, "sequence": "s", "step": 0, "waiting": ["0"]}
    assert vars(served.served) == {"lines": 9, "answered": 2, "waiting": 1, "refused": 6}
    json.dumps(said, allow_nan=False)


def test_lines_of_named_channels_need_no_order():
    model = prepared()
    lines = ['{"wet": 0.6, "machine": "m1", "hot": 70}', '{"hot": 70, "machine": "m2", "wet": 0.6}']
    first, second = server(model).answers(lines)
    assert first["p a"] == second["p a"]
    (lost,) = server(model).answers(['{"hot": 70}'])
    assert "lacks wet" in lost["error"]["message"]


def test_the_order_counts_where_no_names_are_known():
    model = make_model(Kind("s5"))
    first, second = (
        next(server(model).answers(lines))
        for lines in (["sequence,one,two", "s,1,2"], ['{"x": [1, 2]}'])
    )
    assert first["p 0"] == second["p 0"]
    with pytest.raises(DataError, match="2 channels"):
        list(server(model).answers(["one,two,three", "1,2,3"]))


def test_steps_that_waited_are_taken_together_and_answered_in_their_order():
    lines = [
        f'{{"machine": "m{number % 3}", "hot": {30 + number}, "wet": 0.5}}' for number in range(9)
    ]
    lines[4:4] = ["rubbish", '{"machine": "m1", "hot": null, "wet": 0.4}']
    alone, together = server(prepared()), server(prepared())
    taken = []
    step = together.stream.step
    together.stream.step = lambda *given: taken.append(len(given[0])) or step(*given)
    one = list(alone.answers(lines))
    several = list(together.answers_to([lines[:1], lines[1:]]))
    assert [item.get("machine") for item in several] == [item.get("machine") for item in one]
    assert [item["line"] for item in several] == [*range(1, 12)]
    for first, second in zip(one, several, strict=True):
        assert first.get("held") == second.get("held") and first.get("step") == second.get("step")
        assert ("error" in first) == ("error" in second)
        if "p a" in first:
            assert first["p a"] == pytest.approx(second["p a"], abs=1e-6)
    assert vars(alone.served) == vars(together.served)
    # A line that has waited alone, then as many as name different sources, up to the bad one.
    assert taken == [1, 3, 1, 3, 2, 1] or (sum(taken) == 10 and max(taken) == 3)


def test_lines_that_came_while_others_were_answered_come_together():
    more = threading.Event()

    def lines():
        yield "a"
        more.wait(10)
        yield from "bcd"

    found = waiting(lines())
    assert next(found) == ["a"]
    more.set()
    assert "".join(line for some in found for line in some) == "bcd"

    def broken():
        yield "a"
        raise KeyboardInterrupt

    found = waiting(broken())
    assert next(found) == ["a"]
    with pytest.raises(KeyboardInterrupt):
        next(found)
