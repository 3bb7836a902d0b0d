import math

import pytest
import torch
from torch import nn

from helpers.tiny_mamba import tiny, tokens
from ssmith.core.errors import InputError, ModelError, NumericalError
from ssmith.core.sequences import Sequences
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.behaviour import BehaviourConfig, behaviour_of
from ssmith.evaluation.behaviour_text import text_behaviour_of
from ssmith.evaluation.intervals import tango, wilson
from ssmith.families.hf.running import greedy, logits_of

COUNT = 40


class Table(nn.Module):
    """Answers what stands in a table at the row that its input names."""

    def __init__(self, answers):
        super().__init__()
        self.answers = nn.Parameter(answers)

    def forward(self, x, lengths=None):
        return self.answers[x[:, 0, 0].long()]


def rows(targets, **columns):
    count = len(targets)
    x = torch.arange(count, dtype=torch.float32)[:, None, None].expand(-1, 3, 1).contiguous()
    # Of unlike lengths, so that batches come in another order than the rows.
    lengths = torch.tensor([3 - place % 3 for place in range(count)])
    return Sequences(x=x, lengths=lengths, y=targets, columns=columns)


def one_hot(labels):
    return torch.nn.functional.one_hot(labels, 3).float()


def classified():
    draw = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (COUNT,), generator=draw)
    old, new = targets.clone(), targets.clone()
    old[:6] = (targets[:6] + 1) % 3
    new[4:12] = (targets[4:12] + 2) % 3
    machine = tuple("ab"[place % 2] for place in range(COUNT))
    names = tuple(f"row {place}" for place in range(COUNT))
    return targets, old, new, rows(targets, machine=machine, name=names)


def test_flips_are_counted_by_class_and_by_group():
    targets, old, new, data = classified()
    config = BehaviourConfig(slices=("machine",))
    found = behaviour_of(
        Table(one_hot(old)), Table(one_hot(new)), data, config, classes=("x", "y", "z"),
        batch_size=7,
    )  # fmt: skip
    changed = old != new
    assert found.whole.changed == wilson(int(changed.sum()), COUNT)
    broken, mended = (old == targets) & (new != targets), (old != targets) & (new == targets)
    assert (found.whole.broken, found.whole.mended) == (int(broken.sum()), int(mended.sum()))
    assert found.whole.loss.value == pytest.approx(int(broken.sum() - mended.sum()) / COUNT)
    groups = [(0, "x"), (1, "y"), (2, "z")]
    parts = {("class", name): targets == label for label, name in groups}
    parts |= {("machine", name): torch.arange(COUNT) % 2 == i for i, name in enumerate("ab")}
    level = 1 - 0.05 / len(parts)
    for column, listed in found.groups.items():
        for item in listed:
            part = parts.pop((column, item.name))
            assert item.changed == wilson(int((changed & part).sum()), int(part.sum()), level)
            plus, minus = int((mended & part).sum()), int((broken & part).sum())
            z = float(torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64)))
            low, high = tango(plus, minus, int(part.sum()), z)
            assert (item.loss.low, item.loss.high) == pytest.approx((-high, -low))
    assert not parts
    losses = [item.loss.value for item in found.groups["machine"]]
    assert losses == sorted(losses, reverse=True)
    column, worst = found.worst
    assert worst.loss.value == max(
        item.loss.value for listed in found.groups.values() for item in listed
    )
    assert worst in found.groups[column]
    assert sum(count for _, _, count in found.moves) == int(changed.sum())


def test_examples_are_named_those_that_broke_first_and_shown_only_if_asked():
    targets, old, new, data = classified()
    models = Table(one_hot(old)), Table(one_hot(new))
    found = behaviour_of(*models, data, BehaviourConfig(examples=9), classes=())
    assert len(found.examples) == 9
    broke = [old[item["row"]] == targets[item["row"]] for item in found.examples]
    assert broke == sorted(broke, reverse=True)
    for item in found.examples:
        place = item["row"]
        assert item["name"] == f"row {place}"
        told = [item[key] for key in ("target", "before", "after")]
        assert told == [str(int(values[place])) for values in (targets, old, new)]
        assert "x" not in item
    shown = behaviour_of(*models, data, BehaviourConfig(with_data=True), classes=())
    place = shown.examples[0]["row"]
    assert shown.examples[0]["x"] == [[float(place)]] * int(data.lengths[place])


def test_changes_of_numbers_have_sizes_and_a_threshold():
    draw = torch.Generator().manual_seed(1)
    targets = torch.randn(COUNT, generator=draw)
    old = targets[:, None] + 0.1
    change = torch.linspace(0, 1, COUNT)[:, None]
    found = behaviour_of(
        Table(old), Table(old + change), rows(targets), BehaviourConfig(moved=0.5), classes=None
    )
    assert found.moved == 0.5
    assert found.whole.changed.value == pytest.approx(int((change > 0.5).sum()) / COUNT)
    assert found.whole.broken is None
    assert found.whole.loss.value == pytest.approx(float(change.mean()), abs=1e-6)
    assert found.sizes["0.5"] == pytest.approx(0.5, abs=1e-6)
    assert found.sizes["1"] == pytest.approx(1.0, abs=1e-6)
    default = behaviour_of(Table(old), Table(old + change), rows(targets), classes=None)
    assert default.moved == pytest.approx(0.1 * float(old.std(correction=0)), rel=1e-5)


def test_few_rows_of_numbers_have_no_interval():
    targets = torch.zeros(12)
    machine = ("a",) * 3 + ("b",) * 9
    data = rows(targets, machine=machine)
    old = torch.zeros(12, 1)
    found = behaviour_of(Table(old), Table(old + 1), data, BehaviourConfig(slices=("machine",)))
    for item in found.groups["machine"]:
        assert item.loss.low is item.loss.high is None
        assert item.section().loss.high is None


def test_equal_models_change_nothing_and_still_have_a_width():
    _, old, _, data = classified()
    found = behaviour_of(Table(one_hot(old)), Table(one_hot(old)), data, classes=())
    assert found.whole.changed.value == 0 < found.whole.changed.high
    assert found.whole.loss.value == 0 < found.whole.loss.high
    assert found.examples == found.moves == ()


def test_what_cannot_be_audited_is_refused():
    _, old, _, data = classified()
    good = Table(one_hot(old))
    with pytest.raises(InputError, match="no column 'user'"):
        behaviour_of(good, good, data, BehaviourConfig(slices=("user",)), classes=())
    with pytest.raises(ModelError, match="one answer"):
        behaviour_of(good, Table(torch.zeros(COUNT, 4)), data, classes=())
    with pytest.raises(NumericalError, match="of 40 rows"):
        behaviour_of(good, Table(torch.full((COUNT, 3), math.nan)), data, classes=())
    with pytest.raises(InputError, match="comes by itself"):
        BehaviourConfig(slices=("class",))


def windows(count=5, length=14):
    lengths = torch.tensor([length] * (count - 1) + [length - 5])
    starts = torch.tensor([1] * (count - 1) + [3])
    return TokenWindows(
        ids=tokens(count, length), lengths=lengths, scored_from=starts, text_bytes=None,
        vocabulary=61, name="text", source="", sha256="", details={},
    )  # fmt: skip


def test_language_models_are_compared_token_by_token_and_by_their_answers():
    old, new = (tiny("mamba", seed=seed, tie_word_embeddings=False) for seed in (0, 1))
    data = windows()
    config = BehaviourConfig(prompts=4, prompt_tokens=6, answer_tokens=5, with_data=True)
    found = text_behaviour_of(old, new, data, config, batch_size=2)
    same = nats = count = 0.0
    for place in range(len(data)):
        ids = data.ids[place : place + 1, : int(data.lengths[place])]
        with torch.no_grad():
            logits = [logits_of(model, ids)[0].double() for model in (old, new)]
        first, second = (item.log_softmax(-1) for item in logits)
        for position in range(int(data.scored_from[place]) - 1, ids.shape[1] - 1):
            same += float(first[position].argmax() == second[position].argmax())
            nats += float((first[position].exp() * (first[position] - second[position])).sum())
            count += 1
    assert found.agreement.value == pytest.approx(same / count)
    assert found.divergence.value == pytest.approx(nats / count, rel=1e-4)
    assert found.agreement.low <= found.agreement.value <= found.agreement.high
    prompts = data.take(torch.arange(5)[:4] * 5 // 4).ids[:, :6]
    answers = [greedy(model, prompts, 5) for model in (old, new)]
    assert found.changed == wilson(int((answers[0] != answers[1]).any(1).sum()), 4)
    assert found.examples
    for item in found.examples:
        place, first = item["prompt"], item["first"]
        assert item["tokens"] == prompts[place].tolist()
        assert item["before"][:first] == item["after"][:first]
        assert item["before"][first] != item["after"][first]


def test_a_language_model_agrees_with_itself():
    model = tiny("mamba2")
    found = text_behaviour_of(model, model, windows(), BehaviourConfig(answer_tokens=3))
    assert found.agreement.value == 1
    assert abs(found.divergence.value) < 1e-12
    assert found.changed.value == 0
    # The last window is shorter than the prompts.
    assert found.section().answers.prompts == 4
    with pytest.raises(InputError, match="of a text"):
        text_behaviour_of(model, model, windows(), BehaviourConfig(slices=("machine",)))
