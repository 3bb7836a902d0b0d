"""The tuning job: from data to an adapter that opens like a model, on every kind of base."""

import json
from pathlib import Path

import pytest
import torch

from helpers.texts import BEGIN, save_tokenizer
from helpers.tiny_mamba import NAMES, tiny
from ssmith import adapters, api
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.sections import Rate
from ssmith.core.settings import from_mapping, read_settings
from ssmith.jobs.source import tokenizer_for
from ssmith.jobs.tuning import TuneConfig, fine_tune
from ssmith.jobs.tuning.training_set import training_set
from ssmith.tune.adapters import LoRA, StateOffset, from_plain, methods_of

pytest.importorskip("transformers")
TRAINING = {"steps": 6, "evaluate_every": 3, "rate": 0.02, "batch_size": 8}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with a byte-level model of each family and three files of texts."""
    for name in NAMES:
        tiny(name, vocab_size=256).save_pretrained(tmp_path / name)
    lines = {
        "pairs": [{"prompt": f"{i}+1=", "completion": f"{i + 1}"} for i in range(30)],
        "labels": [{"text": "ab"[i % 2] * (3 + i), "label": "xy"[i % 2]} for i in range(30)],
    }
    for name, content in lines.items():
        text = "\n".join(map(json.dumps, content))
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(methods, data, **more):
    content = {"methods": methods, "data": data, "training": TRAINING, **more}
    return from_mapping(TuneConfig, content, where="settings")


def outputs(model):
    ids = torch.arange(40).reshape(2, 20) % 7 + 97
    with torch.no_grad():
        found = model(input_ids=ids)
    return getattr(found, "logits", found)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", ["pairs.jsonl", "labels.jsonl"])
def test_an_adapter_opens_like_the_model_it_makes(place, name, data):
    job = config(["state-offset-h", "lora:out_proj"], data)
    done = fine_tune(name, job, out=place / "tuned")
    loaded = api.load("tuned")
    assert torch.allclose(outputs(loaded), outputs(done.model), rtol=0, atol=1e-6)
    files = {item.name for item in (place / "tuned").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "receipt.json"} <= files
    assert {"recipe.yaml", "history.json", "training.svg", "training.csv"} <= files
    held = read_settings(place / "tuned" / "recipe.yaml")
    assert held.pop("command") == "tune"
    assert held.pop("model")
    again = from_mapping(TuneConfig, held, where="settings")
    assert again == job
    history = json.loads((place / "tuned" / "history.json").read_text())
    assert len(history["losses"]) == 6
    loss = done.quality.measures["loss"]
    assert (loss.before is not None) == (data == "pairs.jsonl")
    assert loss.after.low <= loss.after.value


def test_sequence_models_tune_on_series_with_their_head_or_a_new_one(place):
    short = {**TRAINING, "steps": 2, "batch_size": 64}
    job = config(["state-offset-y"], "embedded:power", training=short)
    own = fine_tune("embedded:power-s4d", job)
    assert "head" not in own.rates
    assert "before" in own.receipt.as_dict()["quality"]["accuracy"]
    new = fine_tune("embedded:digits-s5", job, out=place / "t")
    assert set(new.rates) == {"state-offset-y", "head"}
    loaded = api.load("t")
    part = api.load_data("embedded:power", loaded).split("test").first(8)
    with torch.no_grad():
        assert torch.allclose(loaded(part.x, part.lengths), new.model(part.x, part.lengths))
    assert api.evaluate(loaded, part).count == 8


def test_a_series_on_a_hugging_face_backbone(place):
    done = fine_tune("mamba", config(["state-offset-h"], "embedded:vowels"), out=place / "t")
    assert set(done.rates) == {"state-offset-h", "head"}
    part = api.load_data("embedded:vowels").split("test").first(8)
    loaded = api.load("t")
    with torch.no_grad():
        found = loaded(part.x, part.lengths)
        assert torch.allclose(found, done.model(part.x, part.lengths), rtol=0, atol=1e-6)


def test_rates_are_the_published_ones_unless_given(place):
    settings = {**TRAINING, "rate": None, "steps": 1}
    job = config(
        ["state-offset-hy", "lora:out_proj"],
        "pairs.jsonl",
        published="dart",
        training={**settings, "rates": {"lora": 1e-3}},
    )
    rates = fine_tune("mamba", job).rates
    published = {"source": "published for dart", "optimizer": "adamw"}
    assert rates["state-offset-h"] == Rate(value=4e-4, **published)
    assert rates["state-offset-y"] == Rate(value=4e-3, **published)
    assert rates["lora"] == Rate(value=1e-3, source="given")
    factors = config(["state-offset-h-lowrank"], "pairs.jsonl", published="dart", training=settings)
    assert fine_tune("mamba", factors).rates == {
        "state-offset-h-lowrank": Rate(value=4e-4, **published)
    }
    wrong = {**settings, "rates": {"dora": 1e-3}}
    with pytest.raises(InputError, match="rates names group 'dora'"):
        fine_tune("mamba", config(["state-offset-h"], "pairs.jsonl", training=wrong))


def test_sparse_dimension_tuning_warms_up_and_goes_on_after_a_kill(place):
    methods = [{"method": "sdt", "warmup_steps": 3, "channels": 0.1}]
    job = config(methods, "pairs.jsonl")
    whole = fine_tune("mamba", job, checkpoints=place / "kept", out=place / "a")
    again = fine_tune("mamba", job, checkpoints=place / "kept", out=place / "b")
    files = [place / name / "adapter_model.safetensors" for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert whole.training.losses == again.training.losses
    assert torch.allclose(outputs(api.load("a")), outputs(whole.model), rtol=0, atol=1e-6)


class Stopped(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("method", ["lora:out_proj", "core", "auto"])
def test_a_method_goes_on_after_a_kill(place, method):
    training = {**TRAINING, "rate": None}
    job = config([method], "pairs.jsonl", training=training)
    whole = fine_tune("mamba", job, out=place / "a")

    def kill(stage, done, total, note=""):
        if done == 4:
            raise Stopped

    with pytest.raises(Stopped):
        fine_tune("mamba", job, checkpoints=place / "kept", progress=kill)
    again = fine_tune("mamba", job, checkpoints=place / "kept", out=place / "b")
    assert again.training == whole.training
    assert again.choice == whole.choice
    files = [place / name / "adapter_model.safetensors" for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_auto_knows_what_a_new_head_for_series_reads(place):
    training = {**TRAINING, "rate": None}
    done = fine_tune("mamba", config(["auto"], "embedded:vowels", training=training))
    assert not any(trial.failed for trial in done.choice.trials)
    assert adapters.attach_(done.model, StateOffset(), name="more").proof


def test_a_core_spends_a_share_of_its_steps_on_its_basis_and_stores_it(place):
    methods = [{"method": "core", "rank": 3, "warmup_share": 0.5}]
    done = fine_tune("mamba", config(methods, "pairs.jsonl"), out=place / "t")
    assert done.training.steps == TRAINING["steps"] // 2
    shapes = [tuple(item.shape) for item in adapters.trainable(done.model).values()]
    assert set(shapes) == {(3, 3)}
    assert done.report.parameters == 9 * len(shapes)
    sides = [sum(part.weight.shape) for name, part in api.load("mamba").named_modules()
             if name.endswith(("in_proj", "out_proj"))]  # fmt: skip
    assert done.report.stored == 9 * len(shapes) + 3 * sum(sides)
    size = done.receipt.size
    assert size.stored_parameters == done.report.stored > size.trained_parameters
    assert torch.allclose(outputs(api.load("t")), outputs(done.model), rtol=0, atol=1e-6)


def test_a_gradient_gives_a_basis_without_a_step(place):
    methods = [{"method": "core", "rank": 2, "basis": "gradient"}]
    job = config(methods, "pairs.jsonl")
    done = fine_tune("mamba", job)
    assert done.training.steps == TRAINING["steps"]
    plain = api.load("mamba")
    data = training_set(plain, job)
    batch = data.objective.collate(list(data.rows["train"]))
    data.objective.loss(plain, batch).backward()
    for name, part in plain.named_modules():
        if name.endswith(("in_proj", "out_proj")):
            left, _, right = torch.linalg.svd(part.weight.grad.double(), full_matrices=False)
            core = done.model.get_submodule(name).ssmith_adapters.default.core
            for mine, wanted in ((core.U, left[:, :2]), (core.V, right[:2].mT)):
                overlap = torch.linalg.svdvals(mine.double().mT @ wanted)
                assert torch.allclose(overlap, torch.ones(2).double(), rtol=0, atol=1e-3)


def test_auto_tries_takes_the_best_and_says_what_it_cost(place):
    training = {**TRAINING, "rate": None, "steps": 24}
    job = config(["auto"], "pairs.jsonl", size=0.9, training=training)
    done = fine_tune("mamba", job, out=place / "t")
    trials = done.choice.trials
    first = [trial for trial in trials if trial.steps == trials[0].steps]
    assert [trial.method for trial in first] == ["core-wide", "lora", "core"]
    last = [trial for trial in trials if trial.steps == trials[-1].steps]
    assert done.choice.method == max(last, key=lambda trial: trial.score).method
    assert {trial.method for trial in last} == {
        trial.method for trial in sorted(first, key=lambda t: t.score)[-2:]
    }
    assert done.choice.steps == sum(trial.steps for trial in trials)
    assert done.receipt.as_dict()["details"]["choice"]["method"] == done.choice.method
    named = fine_tune("mamba", config([done.choice.method], "pairs.jsonl", training=training))
    assert named.training.losses == done.training.losses


def test_one_setting_for_all_methods_that_have_it(place):
    job = config(["lora", "initial-state"], "pairs.jsonl", rank=2, alpha=8, targets=["out_proj"])
    lora, offset = job.methods
    assert (lora.rank, lora.alpha, lora.targets) == (2, 8, ("out_proj",))
    assert offset.method == "initial-state"
    whole = config(["lora"], "pairs.jsonl", targets=["all-linear"]).methods[0]
    assert whole.targets == "all-linear"
    with pytest.raises(InputError, match="alpha is 8"):
        config(["state-offset-y"], "pairs.jsonl", alpha=8)


def test_answers_are_written_and_judged(place):
    job = config(["state-offset-h"], "pairs.jsonl", generation={"most": 3}, judged=4)
    answers = fine_tune("mamba", job).receipt.as_dict()["quality"]["answers"]
    assert answers["count"] == len(answers["answers"]) <= 4
    with pytest.raises(InputError, match="no test prompts"):
        fine_tune("mamba", config(["state-offset-h"], "labels.jsonl", generation={}))


def test_a_pruned_model_recovers_towards_the_dense_one_and_no_zero_fills(place):
    model = api.load("mamba")
    keep = {}
    for name, part in model.named_modules():
        if name.endswith("mixer.in_proj"):
            keep[name] = torch.rand(part.weight.shape, generator=torch.Generator()) > 0.5
            with torch.no_grad():
                part.weight.mul_(keep[name])
    model.save_pretrained("pruned")
    more = {"teacher": "mamba", "distill_weight": 1.0}
    training = {**TRAINING, "steps": 40, "rate": 0.005, "evaluate_every": 10}
    job = config(["state-offset-hy"], "pairs.jsonl", **{**more, "training": training})
    done = fine_tune("pruned", job)
    quality = done.receipt.as_dict()["quality"]["divergence"]
    assert quality["after"]["value"] < quality["before"]["value"]
    modules = dict(done.model.named_modules())
    for name, mask in keep.items():
        assert torch.equal(modules[name].weight != 0, mask)
    with pytest.raises(InputError, match="no head"):
        fine_tune("pruned", config(["state-offset-h"], "labels.jsonl", **more))


def test_methods_and_settings_by_every_spelling(place):
    wanted = (StateOffset(), LoRA(targets=("in_proj", "out_proj")))
    assert methods_of("state-offset-h,lora:in_proj+out_proj") == wanted
    spelt = [{"method": "state-offset", "form": "h"},
             {"method": "lora", "targets": ["in_proj", "out_proj"]}]  # fmt: skip
    assert tuple(map(from_plain, spelt)) == wanted
    text = "methods: [state-offset-h]\ndata: pairs.jsonl\ntraining: {rate: 2e-4, steps: 3}\n"
    (place / "tune.yaml").write_text(text, encoding="utf-8")
    job = from_mapping(TuneConfig, read_settings(place / "tune.yaml"), where="settings")
    assert job.training.rate == 2e-4
    assert job.methods == wanted[:1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"methods": ["state-offset-h"]}, "settings lacks data"),
        ({"methods": [], "data": "x"}, "methods is"),
        ({"methods": ["state-ofset"], "data": "x"}, "state-ofset"),
        ({"methods": ["state-offset"], "data": "x"}, "did you mean 'state-offset-h', "),
        ({"methods": ["state-offset-h"], "data": "x", "step": 3}, "unknown setting 'step'"),
        ({"methods": ["bitfit"], "data": "x", "techer": "y"}, "did you mean 'teacher'"),
        ({"methods": ["bitfit"], "data": "x", "training": {"lr": 3}}, "unknown setting 'lr'"),
        ({"methods": ["bitfit"], "data": "x", "examples": {"size": 3}}, "unknown setting 'size'"),
        ({"methods": ["bitfit"], "data": "x", "generation": {"beam": 3}}, "unknown setting 'beam'"),
        ({"methods": ["bitfit"], "data": "x", "published": "glue"}, "published is 'glue'"),
        ({"methods": ["bitfit"], "data": "x", "training": 3}, "training is 3"),
    ],
)
def test_settings_that_are_none_are_errors(content, said):
    with pytest.raises(InputError, match=said):
        from_mapping(TuneConfig, content, where="settings")


def test_text_for_a_model_of_series_is_refused(place):
    with pytest.raises(UnsupportedError, match="sequence model"):
        fine_tune("embedded:digits-s5", config(["state-offset-y"], "pairs.jsonl"))


def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(place, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    job = config(["bitfit"], "pairs.jsonl", training={**TRAINING, "device": "cuda"})
    with pytest.raises(InputError, match="device 'cuda' is not there"):
        fine_tune("nothing-of-this-name", job)


def test_what_was_trained_outlives_a_judgement_that_fails(place, monkeypatch):
    def failing(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("ssmith.jobs.tuning.run._judge", failing)
    with pytest.raises(ZeroDivisionError):
        fine_tune("mamba", config(["bitfit"], "pairs.jsonl"), out=place / "tuned")
    monkeypatch.undo()
    monkeypatch.chdir(place)
    held = json.loads((place / "tuned" / "receipt.json").read_text())
    assert held["quality"] == {"why_null": "judging did not end; the adapter is whole"}
    whole = fine_tune("mamba", config(["bitfit"], "pairs.jsonl"))
    assert torch.equal(outputs(api.load("tuned")), outputs(whole.model))


def test_an_adapter_reads_with_the_tokenizer_of_its_base(place):
    tiny("mamba", vocab_size=320).save_pretrained("base")
    save_tokenizer("base")
    fine_tune("base", config(["lora:out_proj"], "pairs.jsonl"), out=place / "tuned")
    own = tokenizer_for(api.load("base"), "base")
    through = tokenizer_for(api.load("tuned"), "tuned")
    assert through.encode("this, then") == own.encode("this, then")
    assert through.begin == own.begin == (BEGIN,)


def test_rows_that_are_in_several_splits_are_told_of(place):
    rows = [{"prompt": f"{n}+1=", "completion": f"{n + 1}"} for n in range(6)]
    splits = ("train", "validation", "test")
    lines = [
        {**row, "split": split} for split in splits for row in rows[: 3 if split == "test" else 6]
    ]
    Path("shared.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = fine_tune("mamba", config(["bitfit"], "shared.jsonl"))
    [found] = [item for item in done.receipt.findings if item.kind == "leak"]
    assert found.message.startswith("6 inputs of the data are in more than one split")
    clean = fine_tune("mamba", config(["bitfit"], "pairs.jsonl"))
    assert not [item for item in clean.receipt.findings if item.kind == "leak"]
