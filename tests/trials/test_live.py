import dataclasses
import json
import math
import os
import random
import signal

import pytest
import torch

from helpers.killing import dies_at
from helpers.tiny_mamba import tiny
from helpers.toy import CLASSES, tiny_model
from ssmith import api
from ssmith.core.errors import ArtefactError, DataError, InputError, UnsupportedError
from ssmith.core.settings import to_mapping
from ssmith.evaluation.sequential import Sequential
from ssmith.families import SequenceConfig, SequenceModel
from ssmith.trials import follow as job
from ssmith.trials.follow import STATE, follow
from ssmith.trials.live import LiveConfig, LiveTrial, has_new
from ssmith.trials.stream import RowStream


def records(count, seed=0, machines=5):
    draw = torch.Generator().manual_seed(seed)
    found = []
    for place in range(count):
        x = torch.randn(3 + place % 4, 2, generator=draw)
        label = CLASSES[int(torch.randint(3, (), generator=draw))]
        found.append({"id": f"r{place}", "x": x.tolist(), "y": label, "machine": place % machines})
    return found


def write(path, rows, mode="a"):
    with path.open(mode) as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def answers(model, rows):
    with torch.no_grad():
        return [int(model(torch.tensor(row["x"])[None]).argmax()) for row in rows]


def trial(**settings):
    return LiveTrial.of(tiny_model(), tiny_model(seed=1), LiveConfig(**settings))


def test_a_shadow_counts_disagreements_and_paired_losses():
    rows = records(60)
    old, new = (answers(tiny_model(seed=seed), rows) for seed in (0, 1))
    found = trial(tolerance=0.3)
    said = found.rows(rows)
    # Clients get what the old model says.
    assert [max(range(3), key=item.__getitem__) for item in said] == old
    labels = [CLASSES.index(row["y"]) for row in rows]
    losses = [float(b != y) - float(a != y) for a, b, y in zip(old, new, labels, strict=True)]
    state = to_mapping(found.describe())
    assert state["mean"] == pytest.approx(sum(losses) / 60)
    assert state["disagreement"]["value"] == pytest.approx(
        sum(a != b for a, b in zip(old, new, strict=True)) / 60
    )
    judge = Sequential(config=LiveConfig(tolerance=0.3).question(1.0))
    judge.observe(losses)
    assert tuple(state["interval"].values()) == pytest.approx(judge.interval)
    assert state["decision"] == judge.decision


def test_labels_may_come_later_and_in_any_order():
    rows = records(30)
    whole, parts = trial(), trial()
    whole.rows(rows)
    parts.rows([{key: row[key] for key in ("id", "x", "machine")} for row in rows])
    assert parts.describe().waiting == 30
    assert parts.test.count == 0
    order = list(rows)
    random.Random(0).shuffle(order)
    parts.rows([{"id": row["id"], "y": row["y"]} for row in order])
    parts.rows([{"id": "r3", "y": "a"}, {"id": "nobody", "y": "a"}])
    assert parts.describe().waiting == 0
    assert parts.describe().mean == pytest.approx(whole.describe().mean)
    assert parts.counts["labels of unknown rows"] == 2


def test_a_unit_always_has_one_model_and_its_mean_is_the_observation():
    rows = records(240, machines=40)
    config = {"mode": "ab", "unit": "machine", "rows_per_unit": 4}
    found = trial(**config)
    said = found.rows(rows)
    old, new = (answers(tiny_model(seed=seed), rows) for seed in (0, 1))
    arms = {unit: has_new(str(unit), "ssmith", 0.5) for unit in range(40)}
    assert 8 < sum(arms.values()) < 32
    told = [max(range(3), key=item.__getitem__) for item in said]
    assert told == [new[i] if arms[i % 40] else old[i] for i in range(240)]
    # By hand: means of the first four rows of each unit, in the order in which they are complete.
    seen, count, total, values = {}, 0, 0.0, []
    for place, row in enumerate(rows):
        unit = row["machine"]
        loss = float(told[place] != CLASSES.index(row["y"]))
        held = seen.setdefault(unit, [])
        held.append(loss)
        if len(held) == 4:
            mean, centre = sum(held) / 4, total / count if count else 0.5
            values.append((mean - centre) * (2 if arms[unit] else -2))
            count, total = count + 1, total + mean
    state = to_mapping(found.describe())
    assert (state["count"], state["units"], state["rows"]) == (40, 40, 240)
    assert state["mean"] == pytest.approx(sum(values) / 40)
    assert state["observed"] == "units"
    assert found.counts["labelled rows beyond their unit's"] == 240 - 160


def test_the_draw_of_a_unit_depends_on_its_key_and_keeps_its_share():
    names = [f"machine {item}" for item in range(4000)]
    for share in (0.1, 0.5):
        chosen = sum(has_new(name, "june", share) for name in names) / 4000
        assert chosen == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))
    assert [has_new(n, "june", 0.5) for n in names] != [has_new(n, "july", 0.5) for n in names]
    # Who had the new model at a small share has it at a larger one.
    assert all(has_new(n, "june", 0.5) for n in names if has_new(n, "june", 0.1))


def test_numbers_are_compared_within_a_bound():
    with pytest.raises(InputError, match="bound is missing"):
        LiveTrial.of(*regressors(), LiveConfig())
    found = LiveTrial.of(*regressors(), LiveConfig(bound=2.0, tolerance=0.5))
    row = {"x": [[0.1, 0.2]] * 3, "y": 50.0}
    found.rows([row])
    # Both errors are cut at the bound, so that nothing is lost.
    assert found.describe().mean == 0
    assert found.describe().disagreement is not None


def regressors():
    config = SequenceConfig(
        family="s5", width=4, states=(4,), outputs=1, channels=2, task="regression"
    )
    return [SequenceModel(config, torch.Generator().manual_seed(seed)).eval() for seed in (0, 1)]


def plain_state(place):
    return json.loads((place / STATE).read_text())["trial"]


def approx(state):
    """What must be equal to the last bit, and what sums in another order."""
    exact = {key: state[key] for key in ("counts", "waiting", "units", "known", "offsets")}
    numbers = [state["test"]["total"], *state["test"]["above"], *state["test"]["ends"]]
    return exact, pytest.approx(numbers, rel=1e-9, abs=1e-9), state["test"]["count"]


@pytest.mark.parametrize("mode", ["shadow", "ab"])
def test_killed_at_any_moment_nothing_is_counted_twice(place, monkeypatch, mode):
    config = LiveConfig(mode=mode, unit="machine", rows_per_unit=3)
    monkeypatch.setattr(job, "_AT_ONCE", 4)
    rows = records(41)
    write(place / "rows.jsonl", rows)
    follow(("old", "new"), "rows.jsonl", place / "whole", config)
    wanted = plain_state(place / "whole")
    draw, write_json, take = random.Random(1), job.write_json, job._take

    def dies(work):
        def sometimes(*given):
            # Before it, after it, or not at all.
            moment = draw.choice(["before", "after", "never", "never"])
            if moment == "before":
                raise KeyboardInterrupt
            work(*given)
            if moment == "after":
                raise KeyboardInterrupt

        return sometimes

    monkeypatch.setattr(job, "write_json", dies(write_json))
    monkeypatch.setattr(job, "_take", dies(take))
    kills = 0
    while True:
        try:
            follow(("old", "new"), "rows.jsonl", place / "parts", config)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills > 3
    exact, numbers, count = approx(plain_state(place / "parts"))
    assert exact == approx(wanted)[0]
    assert count == wanted["test"]["count"]
    assert [wanted["test"]["total"], *wanted["test"]["above"], *wanted["test"]["ends"]] == numbers


def test_killed_for_good_at_any_write_nothing_is_counted_twice(place, monkeypatch):
    config = LiveConfig(unit="machine", rows_per_unit=3)
    monkeypatch.setattr(job, "_AT_ONCE", 8)
    write(place / "rows.jsonl", records(41))
    follow(("old", "new"), "rows.jsonl", place / "whole", config)
    draw, kills = random.Random(0), 0
    while True:
        child = os.fork()
        if child == 0:
            dies_at(draw.randrange(1, 6))
            follow(("old", "new"), "rows.jsonl", place / "parts", config)
            os._exit(0)
        draw.random()
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
    assert kills >= 3
    wanted, found = (plain_state(place / name) for name in ("whole", "parts"))
    exact, numbers, count = approx(found)
    assert (exact, count) == (approx(wanted)[0], wanted["test"]["count"])
    assert [wanted["test"]["total"], *wanted["test"]["above"], *wanted["test"]["ends"]] == numbers
    assert {item.name for item in (place / "parts").iterdir()} == {STATE}


def test_a_file_grows_and_a_directory_fills(place, ssmith):
    write(place / "rows.jsonl", records(5))
    command = ("trial", "old", "new", "--state", "one", "--data", "rows.jsonl", "--json")
    assert ssmith(*command).document["details"]["rows"] == 5
    with (place / "rows.jsonl").open("a") as stream:
        stream.write('{"id": "half", "x": [[0.1, 0.2]]')
    assert ssmith(*command).document["details"]["rows"] == 5
    with (place / "rows.jsonl").open("a") as stream:
        stream.write("}\n")
    found = ssmith(*command).document["details"]
    assert (found["rows"], found["waiting"]) == (6, 1)
    (place / "fills").mkdir()
    write(place / "fills" / "a.jsonl", records(3))
    command = ("trial", "old", "new", "--state", "two", "--data", "fills", "--json")
    assert ssmith(*command).document["details"]["rows"] == 3
    write(place / "fills" / "b.jsonl", records(4))
    assert ssmith(*command).document["details"]["rows"] == 7


def test_standard_input_is_counted_once_by_id(place):
    rows = records(6)
    text = [json.dumps(row) + "\n" for row in rows]
    _, first = follow(("old", "new"), "-", place / "s", LiveConfig(), stdin=iter(text[:4]))
    assert first.rows == 4
    _, second = follow(("old", "new"), "-", place / "s", LiveConfig(), stdin=iter(text))
    assert second.rows == 6
    assert second.counts["rows seen before"] == 4
    assert second.counts["labelled"] == 6
    with pytest.raises(DataError, match="has no id"):
        list(RowStream(place="-", stdin=iter(['{"x": [1.0]}\n'])).lines())


def test_a_model_that_is_worse_is_found_and_the_code_is_one(place, ssmith):
    # Labels are what the old model says: the new one can only lose.
    rows = records(120)
    for row, answer in zip(rows, answers(tiny_model(), rows), strict=True):
        row["y"] = CLASSES[answer]
    write(place / "rows.jsonl", rows)
    ended = ssmith("trial", "old", "new", "--data", "rows.jsonl", "--state", "s")
    assert ended.code == 1, ended.out
    assert "worse: the new model loses more than 0.01" in ended.out
    other = ssmith(
        "trial", "old", "old", "--data", "rows.jsonl", "--state", "t", "--tolerance", "0.4"
    )
    assert other.code == 0
    assert "within: the new model loses no more" in other.out


def test_where_classes_are_called_by_numbers_a_label_is_a_name():
    found, row = trial(), {"x": [[1.0, 2.0]]}
    found.answers = dataclasses.replace(found.answers, classes=("1", "2", "3"))
    assert [found._target({"y": label}) for label in (1, "3", 2)] == [[0.0], [2.0], [1.0]]
    with pytest.raises(DataError, match="label of a row without id: 0; allowed: 1, 2, 3"):
        found.rows([{**row, "y": 0}])
    # Where they are not, it may be an index as well.
    assert trial()._target({"y": 2}) == [2.0]


def test_what_does_not_fit_is_refused(place, ssmith):
    write(place / "rows.jsonl", records(3))
    command = ("trial", "old", "new", "--data", "rows.jsonl", "--state", "s")
    assert ssmith(*command).code == 0
    assert "with other settings" in ssmith(*command, "--tolerance", "0.2").err
    assert "of other models" in ssmith("trial", "old", "old", *command[3:]).err
    assert "no stream at" in ssmith(*command[:4], "nothing.jsonl", "--state", "u").err
    (place / "rows.jsonl").write_text("")
    assert "shorter than when" in ssmith(*command).err
    for row, words in [
        ({"x": [[1.0]]}, "shape"),
        ({"x": [[1.0, math.nan]]}, "finite"),
        ({"x": "word"}, "no series"),
        ({"x": [[1.0, 2.0]], "y": "z"}, "label of a row without id: 'z'"),
    ]:
        with pytest.raises(DataError, match=words):
            trial().rows([row])
    with pytest.raises(DataError, match="no machine"):
        trial(unit="machine").rows([{"x": [[1.0, 2.0]]}])
    with pytest.raises(UnsupportedError):
        LiveTrial.of(tiny_model(), torch.nn.Linear(1, 1))
    with pytest.raises(ArtefactError):
        trial().resume({"version": 2})


def test_the_row_that_does_not_fit_is_named_with_what_is_wrong():
    rows = records(3)
    for change, said in (
        ({"y": "zzz"}, "label of row 'r1': 'zzz'; allowed: a, b, c"),
        ({"x": [[0.0, 1.0], [0.0, math.nan]]}, "row 'r1' is not finite at step 1"),
        ({"x": [[0.0, 1.0, 2.0]]}, r"row 'r1' has shape \(1, 3\); allowed: steps of 2 channels"),
        ({"x": "words"}, "row 'r1' is no series of numbers"),
    ):
        with pytest.raises(DataError, match=said):
            trial().rows([rows[0], {**rows[1], **change}, rows[2]])


def test_rows_of_one_id_that_wait_for_their_label_are_counted():
    first, second = ({key: row[key] for key in ("id", "x")} for row in records(2))
    found = trial()
    found.rows([first, {**second, "id": first["id"]}])
    assert len(found.waiting) == 1
    assert found.counts["rows that lost their place to another one of their id"] == 1


def test_language_models_are_tried_on_texts_and_resumed(place, ssmith):
    """Both read each text; a text is its own label, and its loss is nats per token."""
    old, new = (tiny("mamba", seed=seed, vocab_size=256) for seed in (0, 1))
    api.save(old, "reads")
    api.save(new, "reads-too")
    texts = [f"def f{n}(x): return x + {n}" for n in range(30)]
    write(place / "texts.jsonl", [{"id": str(n), "x": text} for n, text in enumerate(texts)])
    command = ("trial", "reads", "reads-too", "--data", "texts.jsonl", "--state", "s", "--bound",
               "8", "--tolerance", "0.5", "--json")  # fmt: skip
    found = ssmith(*command).document["details"]
    nats = []
    for model in (old, new):
        with torch.no_grad():
            for text in texts:
                ids = torch.tensor([list(text.encode())])
                logs = model(ids).logits.double().log_softmax(-1)[0, :-1]
                nats.append(-float(logs.gather(1, ids[0, 1:, None]).mean()))
    before, after = torch.tensor(nats).reshape(2, 30).clamp(max=8.0)
    assert found["mean"] == pytest.approx(float((after - before).mean()), abs=1e-4)
    assert found["counts"]["labelled"] == found["rows"] == 30 and found["waiting"] == 0
    write(place / "texts.jsonl", [{"id": "more", "x": [1, 2, 3]}])
    assert ssmith(*command).document["details"]["rows"] == 31
    refused = ssmith(*command[:-5], "--state", "other", "--json")
    assert refused.code == 2 and "nats per token" in refused.err
    for row in ({"x": "a"}, {"x": [1, 999]}, {"x": 3}):
        with pytest.raises(DataError, match="two tokens"):
            LiveTrial.of(old, new, LiveConfig(bound=8.0)).rows([row])


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("counts",), 3, "counts is 3"),
        (("counts", "rows"), "x", "counts.rows is 'x'"),
        (("units",), {"m": [1.0]}, "m holds 1 numbers"),
        (("losses",), [0.0], "losses holds 1 numbers"),
        (("offsets",), {"a.jsonl": -1}, "the offset of a.jsonl"),
        (("waiting",), {"r": {"unit": None, "old": 1, "new": [], "arm": 0}}, "old is 1"),
        (("waiting",), {"r": {"unit": None, "old": [0.1], "new": [0.1], "arm": 0}}, "answers of 1"),
        (("test", "count"), "x", "count is 'x'"),
        (("test", "above"), [1.0], "1 and"),
        (("test", "config", "cells"), 10**9, "capitals"),
        (("config", "share"), "half", "share is 'half'"),
    ],
)
def test_a_damaged_state_is_refused_by_its_key(path, value, named):
    one = trial()
    one.rows(records(4))
    content = json.loads(json.dumps(one.as_dict()))
    trial().resume(content)
    section = content
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises(ArtefactError) as caught:
        trial().resume(content)
    assert named in str(caught.value)
