"""Training a language model: it learns, it resumes to the same bits, and it refuses."""

import json
import math
from dataclasses import replace

import pytest
import torch

from ssmith.core.errors import ArtefactError, DataError, InputError, NumericalError
from ssmith.families.hf import MambaSize, accelerate_, new_mamba
from ssmith.tune.training import LanguageFitConfig, averaged, fit_language_, runs
from ssmith.tune.training.batches import StreamBatches
from ssmith.tune.training.checkpoint import curve_of

CONFIG = LanguageFitConfig(
    steps=7, batch_size=2, length=16, lr=1e-2, warmup=0.2, evaluate_every=3, seed=5
)


class Stopped(BaseException):
    """What a kill looks like from inside."""


def stream(count=200):
    return (torch.arange(count) % 7).to(torch.uint8)


def model(seed=0):
    made = new_mamba(MambaSize(width=8, layers=2, states=4, vocabulary=11), seed=seed)
    accelerate_(made)
    return made


def nothing(_):
    return 1.0


def weights(made):
    return {name: item.clone() for name, item in made.state_dict().items()}


def assert_equal(first, second):
    assert set(first) == set(second)
    for name, item in first.items():
        assert torch.equal(item, second[name]), name


@pytest.fixture(autouse=True)
def every_step(monkeypatch):
    """A checkpoint after each step, not after minutes."""
    monkeypatch.setattr(runs, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)


def test_it_learns_what_can_be_learned():
    made = model()
    config = replace(CONFIG, steps=60, lr=2e-2)
    done = fit_language_(made, stream(), config, nothing)
    assert done.losses[0] == pytest.approx(math.log(11), rel=0.1)
    assert done.losses[-1] < 0.2 * done.losses[0]
    assert not made.training
    assert done.best_step == done.steps == 60
    curve = averaged(done.losses)
    assert [item["step"] for item in curve] == list(range(1, 61))
    assert curve[9]["loss"] == done.losses[9]
    halves = averaged(done.losses, points=2)
    assert [item["step"] for item in halves] == [30, 60]
    assert halves[1]["loss"] == pytest.approx(sum(done.losses[30:]) / 30)


def test_validation_comes_every_so_many_steps_and_at_the_end():
    done = fit_language_(model(), stream(), CONFIG, lambda _: 2.5)
    looks = [(look.step, look.validation) for look in done.looks]
    assert looks == [(step, {"bits_per_token": 2.5}) for step in (3, 6, 7)]


@pytest.mark.parametrize("stopped_at", [1, 3, 6])
def test_a_run_that_was_killed_ends_with_the_same_bits(stopped_at, tmp_path):
    path = tmp_path / "run.safetensors"
    whole = model()
    expected = fit_language_(whole, stream(), CONFIG, nothing)

    def told(stage, step, total, note=""):
        if step == stopped_at:
            raise Stopped

    with pytest.raises(Stopped):
        fit_language_(model(), stream(), CONFIG, nothing, checkpoint=path, progress=told)
    again = model(seed=9)
    done = fit_language_(again, stream(), CONFIG, nothing, checkpoint=path)
    assert_equal(weights(again), weights(whole))
    assert done == expected
    assert json.loads(curve_of(path).read_text())["steps_done"] == 7
    assert {item.name for item in tmp_path.iterdir()} == {path.name, curve_of(path).name}


def test_each_pass_sees_every_row_once_in_a_new_order():
    batches = StreamBatches(stream=torch.arange(200), length=16, size=2, seed=5)
    assert batches.windows == 11
    passes = [torch.cat([batches.rows(step) for step in range(at, at + 5)]) for at in (0, 5)]
    for starts in passes:
        assert len({int(item) // 16 for item in starts - starts.min()}) == 10
    assert not torch.equal(passes[0].sort().values, passes[1].sort().values)
    batch, start = batches.collate(batches.rows(0)), int(batches.rows(0)[0])
    assert torch.equal(batch["input_ids"][0], torch.arange(start, start + 16))
    assert torch.equal(batch["labels"][0], torch.arange(start + 1, start + 17))


def test_only_products_and_embeddings_decay():
    made = model()
    decayed, plain = (
        {id(item) for item in group["params"]} for group in runs._language_groups(made, CONFIG)
    )
    names = {id(item): name for name, item in made.named_parameters()}
    ends = {names[item].split(".layers.")[-1].split(".", 1)[-1] for item in decayed}
    assert ends == {
        "embeddings.weight", "mixer.in_proj.weight", "mixer.x_proj.weight", "mixer.dt_proj.weight",
        "mixer.out_proj.weight",
    }  # fmt: skip
    assert decayed | plain == set(names)
    assert not decayed & plain


def test_the_way_products_are_computed_is_restored(monkeypatch):
    seen = []
    before = torch.get_float32_matmul_precision()

    def validate(_):
        seen.append(torch.get_float32_matmul_precision())
        return 0.0

    fit_language_(model(), stream(), replace(CONFIG, matmul_precision="medium"), validate)
    assert set(seen) == {"medium"}
    assert torch.get_float32_matmul_precision() == before
    called = []
    monkeypatch.setattr(runs, "tune_allocator_", lambda: called.append(1))
    fit_language_(model(), stream(), replace(CONFIG, keep_freed_memory=True), validate)
    assert called == [1]


def test_autocast_changes_the_arithmetic_and_little_else():
    plain = fit_language_(model(), stream(), CONFIG, nothing).losses
    cast = fit_language_(model(), stream(), replace(CONFIG, autocast=True), nothing).losses
    assert cast != plain
    assert cast == pytest.approx(plain, rel=0.05)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    fit_language_(model(), stream(), CONFIG, nothing, checkpoint=path, facts={"data": "a"})
    untouched = model(seed=4)
    before = weights(untouched)
    for config, facts in ((replace(CONFIG, lr=1.0), {"data": "a"}), (CONFIG, {"data": "b"})):
        with pytest.raises(ArtefactError, match=r"other settings or data: (settings.lr|data) was"):
            fit_language_(untouched, stream(), config, nothing, checkpoint=path, facts=facts)
    other = new_mamba(MambaSize(width=8, layers=1, states=4, vocabulary=11), seed=0)
    with pytest.raises(ArtefactError, match="not a checkpoint of this model"):
        fit_language_(other, stream(), CONFIG, nothing, checkpoint=path, facts={"data": "a"})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtefactError, match="is not a checkpoint"):
        fit_language_(untouched, stream(), CONFIG, nothing, checkpoint=path, facts={"data": "a"})
    assert_equal(weights(untouched), before)


def test_a_text_shorter_than_a_batch_is_refused():
    with pytest.raises(DataError, match=r"has 48 tokens.*at least 49"):
        fit_language_(model(), stream(48), CONFIG, nothing)
    fit_language_(model(), stream(49), replace(CONFIG, steps=1), nothing)


def test_a_loss_that_is_no_number_stops_the_run():
    made = model()
    with torch.no_grad():
        made.backbone.norm_f.weight[0] = float("nan")
    with pytest.raises(NumericalError, match="the training loss became nan"):
        fit_language_(made, stream(), CONFIG, nothing)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"beta2": 1.0}, "beta2 is 1"),
        ({"warmup": 1.0}, "warmup is 1"),
        ({"matmul_precision": "low"}, "matmul_precision is 'low'"),
    ],
)
def test_settings_outside_their_domain_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        replace(CONFIG, **change)
