"""Cut, recover, tune, go on, merge, export: every step takes what the one before wrote."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.tiny_mamba import tiny, tokens
from helpers.toy import tiny_data, tiny_model
from ssmith import api
from ssmith.data import save_npz
from ssmith.jobs.pilot.config import PilotConfig
from ssmith.jobs.pilot.subject import open_subject

pytest.importorskip("transformers")
FAMILIES = {
    "mamba": lambda: tiny("mamba", vocab_size=256),
    "untied": lambda: tiny("mamba", vocab_size=256, tie_word_embeddings=False),
    "falcon_mamba": lambda: tiny("falcon_mamba", vocab_size=256),
    "mamba2": lambda: tiny("mamba2", vocab_size=256),
    "s5": None,
}
FEW = ("--steps", "2", "--batch-size", "4")
# What may follow what: an adapter can be merged, and is trained on by its own method alone.
ORDERS = {
    "model": ("cut", "recover", "tune"),
    "adapter": ("cut", "recover", "on", "merge"),
}
LEAVES = {"cut": "model", "recover": "model", "merge": "model", "tune": "adapter", "on": "adapter"}


def orders(length, holds="model", before=()):
    """Every order of so many steps in which no step comes twice."""
    if len(before) == length:
        yield before
        return
    for step in ORDERS[holds]:
        if step not in before:
            yield from orders(length, LEAVES[step], (*before, step))


@pytest.fixture
def place(place, capsys):
    lines = [{"prompt": f"{i % 9}+1=", "completion": str(i % 9 + 1)} for i in range(20)]
    (place / "sums.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    (place / "text.txt").write_text("".join(f"{i} and {i + 1}.\n" for i in range(200)))
    capsys.readouterr()
    return place


def started(place, family, capsys):
    """Save the model that a chain begins with; return what its steps are told."""
    if FAMILIES[family] is None:
        return "model", "data.npz", "parameters:D", "last"
    FAMILIES[family]().save_pretrained(place / "dense")
    capsys.readouterr()
    return "dense", "sums.jsonl", "lora:out_proj", "magnitude"


def answers(spec):
    """What the model at a place says."""
    model = api.load(spec)
    with torch.no_grad():
        if hasattr(model, "current_config"):
            x = torch.linspace(-1, 1, 2 * 20 * 2).reshape(2, 20, -1)[..., : model.config.channels]
            return model(x)
        return model(input_ids=tokens(2, 9)).logits


def words(step, before, after, told):
    """The command line of a step."""
    first, data, method, criterion = told
    rows = ("--data", "text.txt", "--samples", "2", "--length", "16") if data != "data.npz" else ()
    tune = ("tune", before, "--data", data, "--out", after, *FEW)
    return {
        "cut": ("prune", before, "--cut", "state=1", "--method", criterion, *rows, "--out", after),
        "recover": (*tune, "--method", method, "--teacher", first, "--merge", "stock"),
        "tune": (*tune, "--method", method),
        "on": (*tune, "--rate", "0.01"),
        "merge": ("merge", before, "--out", after),
    }[step]


def walked(ssmith, order, told):
    """Take steps one after the other, each as a command; what is there already is not made again.

    Return the place of the last one.
    """
    before = told[0]
    for number in range(1, len(order) + 1):
        after = "-".join(order[:number])
        if not Path(after).exists():
            ended = ssmith(*words(order[number - 1], before, after, told))
            assert ended.code == 0, (order[:number], ended.err)
            assert bool(answers(after).isfinite().all())
            ended = ssmith("verify", after)
            assert ended.code == 0, (order[:number], ended.out)
            assert "not checked" not in ended.out, (order[:number], ended.out)
        before = after
    return before


def exported(ssmith, spec):
    """Bring what was made into a line, and out of it again."""
    assert ssmith("release", "init", f"{spec}-line").code == 0
    added = ssmith("release", "add", f"{spec}-line", spec, "--reason", "made")
    assert added.code == 0, added.err
    out = f"{spec}-out"
    assert ssmith("release", "export", f"{spec}-line", "newest", "--out", out).code == 0
    assert torch.equal(answers(f"{out}/model"), answers(spec))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "mamba"])
def test_steps_follow_each_other_to_any_depth(place, ssmith, capsys, family):
    told = started(place, family, capsys)
    walked(ssmith, ("cut", "recover"), told)
    long = ("cut", "recover", "cut", "tune", "on", "merge", "cut")
    exported(ssmith, walked(ssmith, long, told))
    exported(ssmith, walked(ssmith, long[:5], told))
    sizes = [_numbers(name) for name in (told[0], "cut", "-".join(long[:3]), "-".join(long))]
    assert sizes == sorted(set(sizes), reverse=True), "every cut takes something"


def _numbers(spec):
    return sum(item.numel() for item in api.load(spec).parameters())


def test_every_order_that_makes_sense_is_taken(place, ssmith, capsys):
    told = started(place, "mamba", capsys)
    found = [order for length in (2, 3) for order in orders(length)]
    assert len(found) == len(set(found)) > 10
    for order in found:
        walked(ssmith, order, told)
    # Cut as an adapter, or merged and cut: the same weights.
    one, other = (load_file(f"{name}/model.safetensors") for name in ("tune-cut", "tune-merge-cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_going_on_begins_where_the_adapter_ended(place, ssmith, capsys):
    told = started(place, "mamba", capsys)
    tune = words("tune", told[0], "first", told)
    assert ssmith(*tune, "--rate", "0.3").code == 0
    assert ssmith(*words("on", "first", "same", told)[:-1], "1e-30").code == 0
    first, same = (load_file(f"{name}/adapter_model.safetensors") for name in ("first", "same"))
    assert all(torch.equal(first[name], same[name]) for name in first)
    said = json.loads(Path("same/receipt.json").read_text())["details"]["trained_on_from"]
    assert Path(said["path"]) == Path("first").resolve()
    seen = ssmith("verify", "same").out
    assert "trained on from" in seen
    Path("first/adapter_model.safetensors").write_bytes(b"other")
    assert ssmith("verify", "same").code == 1


@pytest.mark.parametrize(
    ("method", "words", "said"),
    [
        ("lora:out_proj", ("tune", "A", "--method", "bitfit", "--data", "sums.jsonl"),
         "merge it first: ssmith merge A --out MODEL"),
        ("state-offset-h", ("merge", "A"), "ssmith merge A --out MODEL --form ssmith"),
        ("prompt", ("merge", "A"), "do this with its base"),
        ("prompt", ("prune", "A", "--cut", "state=1"), "do this with its base"),
        ("lora:out_proj", ("prune", "A", "--cut", "state=1", "--from-disk"),
         "merge it first: ssmith merge A --out MODEL"),
        ("lora:out_proj", ("merge", "dense"), "is a model without an adapter"),
    ],
)  # fmt: skip
def test_what_cannot_follow_names_what_can(place, ssmith, capsys, method, words, said):
    started(place, "mamba", capsys)
    made = ("tune", "dense", "--data", "sums.jsonl", "--method", method, "--out", "A", *FEW)
    assert ssmith(*made).code == 0
    ended = ssmith(*words, "--out", "B")
    assert ended.code == 2
    assert said in ended.err
    assert not Path("B").exists()


def test_an_adapter_of_other_methods_stands_on_a_merged_model(place, ssmith, capsys):
    told = started(place, "mamba", capsys)
    walked(ssmith, ("tune",), told)
    ended = ssmith(
        "tune", "tune", "--method", "bitfit", "--data", "sums.jsonl", "--merge", "stock",
        "--out", "both", "--rate", "1e-30", *FEW,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert torch.allclose(answers("both"), answers("tune"), rtol=0, atol=1e-6)
    assert ssmith("verify", "both").code == 0


def test_an_untied_model_without_its_head_is_refused(place, ssmith, capsys):
    started(place, "untied", capsys)
    path = Path("dense/model.safetensors")
    save_file({k: v for k, v in load_file(path).items() if k != "lm_head.weight"}, path)
    ended = ssmith("inspect", "dense")
    assert ended.code == 2
    assert "lm_head.weight" in ended.err


def test_a_pilot_of_an_adapter_cuts_what_it_makes_of_its_base(tmp_path, ssmith, monkeypatch):
    monkeypatch.chdir(tmp_path)
    api.save(tiny_model(), "base")
    save_npz(tiny_data(count=40), Path("data.npz"))
    tune = ("tune", "base", "--method", "lora", "--data", "data.npz", "--rate", "0.3")
    assert ssmith(*tune, "--steps", "2", "--out", "A").code == 0
    assert ssmith("merge", "A", "--out", "M").code == 0
    config = PilotConfig(max_loss="1 points")
    subject = open_subject("A", "data.npz", config, None, "")
    merged, own = api.load("M"), subject.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in merged.state_dict().items())
    assert own.keys() == merged.state_dict().keys()
    # It is the adapter that the result was made from.
    assert subject.about().digest_before == api.inspect(api.load("A")).digest
    few = ("--at", "0.5", "--baselines", "random", "--samples", "4", "--speed-seconds", "0.001")
    pilot = ("pilot", "A", "--data", "data.npz", "--max-loss", "99 points", *few)
    assert ssmith(*pilot, "--out", "P").code in (0, 1)
    verified = ssmith("verify", "P")
    assert verified.code == 0, verified.out
    assert "not checked" not in verified.out


def test_an_adapter_whose_base_moved_says_how_to_name_it(place, ssmith):
    tune = ("tune", "model", "--method", "lora", "--data", "data.npz", "--steps", "1")
    assert ssmith(*tune, "--out", "A").code == 0
    Path("model").rename("moved")
    cut = ("prune", "A", "--cut", "state=1", "--out", "P")
    for words in (("inspect", "A"), ("merge", "A", "--out", "M"), cut):
        ended = ssmith(*words)
        assert ended.code == 2
        assert "A is an adapter of a base that is not there" in ended.err
        assert "--base MODEL" in ended.err
    assert ssmith("inspect", "A", "--base", "moved").code == 0
