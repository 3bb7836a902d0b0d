"""Tuning adapters and heads: what is learned, kept, stopped and refused."""

import pytest
import torch

from helpers.tiny_mamba import NAMES, tiny
from helpers.tuning import labelled, language_work, loss_of, random_rows
from helpers.unchecked import build
from ssmith.core.errors import ArtefactError, InputError, NumericalError
from ssmith.families.heads import HeadConfig, with_head
from ssmith.families.hf import accelerate_
from ssmith.tune.training import (
    AnswerObjective,
    LanguageObjective,
    RateGroup,
    TrainingConfig,
    Work,
    runs,
    train_,
)
from ssmith.tune.training.checkpoint import curve_of, read_checkpoint
from ssmith.tune.training.processes import Processes
from ssmith.tune.training.schedule import Schedule

pytest.importorskip("transformers")


def test_it_learns_and_keeps_the_best_weights():
    model, work = language_work(steps=12, evaluate_every=3)
    frozen = {name: item.clone() for name, item in model.state_dict().items()}
    before = loss_of(model, work.validation)
    done = train_(model, work)
    after = loss_of(model, work.validation)
    assert after < before - 0.05
    assert len(done.losses) == done.steps == 12
    assert done.losses[-1] < done.losses[0]
    assert [look.step for look in done.looks] == [0, 3, 6, 9, 12]
    best = min(look.validation["loss"] for look in done.looks)
    assert after == pytest.approx(best, abs=1e-6)
    assert done.looks[0].validation["loss"] == pytest.approx(before, abs=1e-6)
    for name, value in model.state_dict().items():
        assert torch.equal(value, frozen[name]) == ("in_proj" not in name), name


def test_the_loss_is_the_mean_over_learned_tokens_whatever_the_accumulation():
    losses = []
    for size, accumulate in ((4, 1), (2, 2), (1, 4)):
        model, work = language_work(steps=3, batch_size=size, accumulate=accumulate)
        losses.append(train_(model, work).losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_a_prompt_is_read_and_not_learned():
    rows = random_rows(3, start=4)
    batch = LanguageObjective().collate(rows)
    for number, row in enumerate(rows):
        learned = batch["labels"][number] != -100
        assert int(learned.sum()) == row.learned == len(row.ids) - 4
        # A label stands where it is predicted, one step before its token.
        assert not learned[:3].any()
        assert not learned[len(row.ids) - 1 :].any()
        assert torch.equal(batch["labels"][number][learned], row.ids[4:])
    model = tiny("mamba")
    with torch.no_grad():
        found = LanguageObjective().measure(model, batch)
        for number, row in enumerate(rows):
            logits = model(row.ids[None]).logits[0]
            by_hand = -logits[3:-1].log_softmax(-1).gather(1, row.ids[4:, None]).sum()
            assert torch.allclose(found[number, 0], by_hand, rtol=1e-4)


def test_patience_stops_early_and_the_start_is_not_lost(tmp_path):
    model, work = language_work(
        steps=40, evaluate_every=1, patience=2, rate=30.0, checkpoint=tmp_path / "kept"
    )
    done = train_(model, work)
    assert done.stopped_early
    assert done.steps == done.best_step + 2 < 40
    again = train_(model, work)
    assert again.steps == done.steps
    assert again.stopped_early


def test_nothing_is_pickled(tmp_path):
    path = tmp_path / "kept" / "last.safetensors"
    model, work = language_work(steps=4, evaluate_every=2, checkpoint=path, identity={"a": 1})
    done = train_(model, work)
    names = {item.name for item in tmp_path.rglob("*") if item.is_file()}
    assert names == {path.name, curve_of(path).name}
    there = read_checkpoint(path, {"a": 1, "processes": 1}, work.read())
    assert set(there.weights) == set(there.best) == set(work.read())
    assert there.losses.tolist() == done.losses


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "last.safetensors"
    model, work = language_work(steps=2, checkpoint=path, identity={"targets": ("in_proj",)})
    train_(model, work)
    # What JSON gave back is the same run.
    again, same = language_work(steps=2, checkpoint=path, identity={"targets": ["in_proj"]})
    assert train_(again, same).steps == 2
    other_model, other = language_work(steps=2, checkpoint=path, identity={"seed": 9})
    with pytest.raises(
        ArtefactError, match=r"other settings or data: seed was null and is 9, targ"
    ):
        train_(other_model, other)
    path.write_bytes(b"no")
    with pytest.raises(ArtefactError, match="not a checkpoint"):
        train_(model, work)


def test_a_checkpoint_of_another_number_of_processes_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    model, work = language_work(steps=2, checkpoint=path)
    train_(model, work)
    monkeypatch.setattr(runs, "join_processes", lambda device: Processes(rank=0, count=2))
    with pytest.raises(ArtefactError, match="processes was 1 and is 2"):
        train_(model, work)


def test_a_rate_that_is_too_high_is_an_error_and_not_a_result():
    model, work = language_work(steps=6, rate=1e30, clip_norm=0)
    with pytest.raises(NumericalError, match="lower the learning rate"):
        train_(model, work)


def test_every_trained_parameter_has_a_group():
    model, work = language_work(steps=2)
    model.backbone.layers[0].mixer.A_log.requires_grad_()
    with pytest.raises(InputError, match="in no group"):
        train_(model, work)


def test_the_generators_are_left_as_they_were():
    model, work = language_work(steps=2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_(model, work)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"gradient_checkpointing": True}])
def test_precision_and_checkpointing_train_alike(settings):
    plain, work = language_work(steps=3)
    wanted = train_(plain, work).losses
    model, other = language_work(steps=3, **settings)
    forward = model.forward
    found = train_(model, other).losses
    assert found == pytest.approx(wanted, abs=0.05 if "precision" in settings else 1e-5)
    assert model.forward == forward
    assert all(item.dtype == torch.float32 for item in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_head_learns_labels_and_numbers(name):
    for task in ("classification", "regression"):
        model = tiny(name)
        accelerate_(model)
        head = with_head(model, HeadConfig(task=task, outputs=2 if task == "classification" else 1))
        head.backbone.requires_grad_(False)
        rows = labelled(24, task)
        objective = AnswerObjective(task=task)
        score = {f"score.{key}": value for key, value in head.score.named_parameters()}
        work = Work(
            objective=objective, train=rows, validation=rows, groups=[
                RateGroup(name="head", parameters=score, rate=0.05)
            ],
            config=TrainingConfig(steps=30, batch_size=8, evaluate_every=15),
            read=lambda head=head: dict(head.score.state_dict()),
            write=head.score.load_state_dict,
        )  # fmt: skip
        looks = train_(head, work).looks
        best = min(look.validation["loss"] for look in looks)
        with torch.no_grad():
            batch = objective.collate(rows)
            start = with_head(tiny(name), head.head_config, torch.Generator().manual_seed(3))
            untuned = objective.measure(start, batch)[:, 0].mean()
        assert best < 0.8 * float(untuned)


def test_distillation_meets_its_teacher():
    teacher = tiny("mamba", seed=1)
    rows = random_rows(4)
    objective = LanguageObjective(teacher=teacher)
    batch = objective.collate(rows)
    found = objective.measure(teacher, batch)
    assert float(found[:, 1].abs().max()) == pytest.approx(0.0, abs=1e-4)
    plain = LanguageObjective().measure(teacher, batch)
    assert torch.allclose(found[:, 2:], plain, rtol=1e-5)
    mixed = LanguageObjective(teacher=teacher, distill_weight=0.25).measure(
        tiny("mamba", seed=2), batch
    )
    assert torch.allclose(mixed[:, 0], 0.25 * mixed[:, 1] + 0.75 * mixed[:, 2])
    assert not any(item.requires_grad for item in teacher.parameters())


def test_settings_outside_their_domain_are_refused():
    for wrong in (
        {"steps": 0}, {"epochs": 0.0}, {"steps": 3, "epochs": 1.0}, {"rate": 0.0},
        {"rates": {"lora": -1.0}}, {"warmup": 1.0}, {"schedule": "step"},
        {"precision": "float16"}, {"patience": 0}, {"device": "tpu"},
    ):  # fmt: skip
        with pytest.raises(InputError):
            build(TrainingConfig, **wrong)


def test_lengths_of_a_run():
    assert TrainingConfig(steps=7).total_steps(100, 1) == 7
    assert TrainingConfig(batch_size=4, epochs=3).total_steps(10, 1) == 9
    assert TrainingConfig(batch_size=4, epochs=3).total_steps(10, 2) == 6
    assert TrainingConfig().total_steps(8, 1) == 20
    assert TrainingConfig().look_every(100) == 5


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("final", [0.0, 0.25])
def test_the_rate_rises_then_falls_to_its_share(shape, final):
    if shape == "constant" and final:
        return
    schedule = Schedule(steps=100, rising=10, shape=shape, final=final)
    rates = [schedule.rate(2.0, step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    assert rates[10] == pytest.approx(2.0)
    if shape == "constant":
        assert set(rates[10:]) == {2.0}
    else:
        assert rates[55] == pytest.approx(2.0 * (final + (1 - final) / 2))
        assert rates[100] == pytest.approx(2.0 * final)
        assert rates[10:] == sorted(rates[10:], reverse=True)
    assert Schedule(steps=9, rising=0, shape=shape).rate(2.0, 0) == 2.0
