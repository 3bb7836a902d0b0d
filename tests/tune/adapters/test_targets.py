"""What a request reaches is said, and what it does not reach is an error."""

import pytest
import torch
from torch.nn import functional

from helpers.adapting import SELECTIVE, build
from helpers.tiny_hybrids import HYBRIDS, tiny_hybrid
from helpers.tiny_mamba import tiny
from ssmith import adapters
from ssmith.core.errors import InputError, ModelError, UnsupportedError
from ssmith.families.hf import accelerate_, restore_
from ssmith.tune.adapters.slot import slots

QUICK = {"prove": False}


@pytest.mark.parametrize("target", ["gate_proj_NOPE", "in_porj", "layers.7.mixer.in_proj"])
def test_a_target_that_matches_nothing_is_an_error_beside_ones_that_match(target):
    model = build("mamba")
    with pytest.raises(InputError, match="matches no linear layer") as error:
        adapters.attach_(model, adapters.LoRA(targets=("out_proj", target)))
    if target == "in_porj":
        assert "in_proj" in str(error.value)
    assert adapters.adapters_of(model) == {}
    assert not list(slots(model))


def test_a_part_of_a_projection_must_be_one_it_has():
    with pytest.raises(InputError, match="x_proj:dt, x_proj:B, x_proj:C"):
        adapters.attach_(build("mamba"), adapters.LoRA(targets=("x_proj:E",)))


@pytest.mark.parametrize("method", [adapters.Parameters, adapters.BitFit])
def test_a_parameter_that_is_not_there_is_an_error(method):
    with pytest.raises(InputError, match="matches no"):
        adapters.attach_(build("mamba"), method(targets=("A_lgo",)))


def test_attention_alone_is_partial_and_says_so():
    model = tiny_hybrid("nemotron_h")
    lora = adapters.LoRA(targets=("q_proj", "k_proj", "v_proj", "o_proj"))
    with pytest.raises(InputError, match=r"ssm 0/2, attention 1/1, mlp 0/1"):
        adapters.attach_(model, lora)
    report = adapters.attach_(model, lora, allow_partial=True)
    assert report.coverage == {"ssm": (0, 2), "attention": (1, 1), "mlp": (0, 1)}
    assert "ssm 0/2, attention 1/1, mlp 0/1" in str(report)


def test_one_layer_of_several_is_partial():
    lora = adapters.LoRA(targets=("layers.0.mixer.in_proj",))
    with pytest.raises(InputError, match="ssm 1/2"):
        adapters.attach_(build("mamba"), lora)


def test_patterns_with_stars():
    model = build("mamba")
    report = adapters.attach_(model, adapters.LoRA(targets=("layers.*.mixer.*_proj",)), **QUICK)
    assert len(report.tensors) == 2 * 2 * 4


@pytest.mark.parametrize("family", [*SELECTIVE, *HYBRIDS])
def test_the_default_targets_work_on_every_family(family):
    model = tiny(family) if family in SELECTIVE else tiny_hybrid(family)
    report = adapters.attach_(model, adapters.LoRA(rank=2))
    assert report.coverage["ssm"][0] == report.coverage["ssm"][1] > 0
    assert all(norm > 0 for norm in report.proof.values())
    owners = {name.partition(".ssmith_adapters")[0].rpartition(".")[2] for name in report.tensors}
    assert {"in_proj", "out_proj"} <= owners
    assert not owners & {"lm_head", "score"}


@pytest.mark.parametrize("family", HYBRIDS)
def test_offsets_and_initial_states_work_in_every_hybrid(family):
    model = tiny_hybrid(family)
    both = [adapters.StateOffset(form="both"), adapters.InitialState()]
    report = adapters.attach_(model, both)
    assert all(norm > 0 for norm in report.proof.values())
    with pytest.raises(UnsupportedError, match="attention or feed-forward"):
        adapters.attach_(model, adapters.PromptTuning(), name="second")


@pytest.mark.parametrize("family", SELECTIVE)
@pytest.mark.parametrize("projection", ["in_proj", "x_proj", "dt_proj", "out_proj"])
def test_each_projection_acts_by_itself_and_merges_by_itself(family, projection):
    model = build(family)
    if family == "mamba2" and projection in ("x_proj", "dt_proj"):
        with pytest.raises(InputError, match="matches no linear layer"):
            adapters.attach_(model, adapters.LoRA(targets=(projection,)))
        return
    report = adapters.attach_(model, adapters.LoRA(targets=(projection,), rank=2))
    assert all(norm > 0 for norm in report.proof.values())
    with torch.no_grad():
        for tensor in adapters.trainable(model).values():
            tensor.normal_(generator=torch.Generator().manual_seed(1))
    merged = adapters.merge_(model)
    assert merged.difference < 1e-5
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in merged.merged} == {projection}


def fused(mixer):
    """Stand in for a fused kernel: it reads the output projection's weight and calls nothing."""

    def call(x, *_, **__):
        return functional.linear(x, mixer.out_proj._parameters["weight"])

    mixer.out_proj.forward = call


def test_a_fused_kernel_that_reads_raw_weights_is_found_out():
    model = build("mamba")
    accelerate_(model)
    for layer in model.backbone.layers:
        fused(layer.mixer)
    with pytest.raises(ModelError, match="exactly the same output"):
        adapters.attach_(model, adapters.LoRA(targets=("out_proj",)))
    with pytest.raises(ModelError, match=r"get no gradient .*out_proj"):
        adapters.attach_(model, adapters.LoRA(targets=("in_proj", "out_proj")))
    assert adapters.adapters_of(model) == {}
    assert not any(tensor.grad is not None for tensor in model.parameters())


def test_a_hidden_bypass_of_one_parameter_is_found_out():
    model = build("mamba")
    mixer = model.backbone.layers[1].mixer
    mixer.conv1d.register_forward_pre_hook(lambda *_: None)
    accelerate_(model)
    stale = mixer.dt_proj.weight.detach()
    mixer.dt_proj.forward = lambda x: functional.linear(x, stale)
    with pytest.raises(ModelError, match=r"layers\.1\.mixer\.dt_proj"):
        adapters.attach_(model, adapters.LoRA())


def test_an_adapted_model_does_not_go_back_to_stock_code():
    model = build("mamba")
    adapters.attach_(model, adapters.StateOffset(), **QUICK)
    with pytest.raises(UnsupportedError, match="carries adapters"):
        restore_(model)
    adapters.detach_(model, "default")
    assert type(model.backbone.layers[0].mixer).__dict__.get("_ssmith_stock_class") is None


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_model_under_peft_is_refused():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny("mamba"), peft.LoraConfig(target_modules=["in_proj"]))
    with pytest.raises(UnsupportedError, match="adapters of peft"):
        adapters.attach_(model, adapters.StateOffset())


def test_quantised_weights_take_lora_but_no_lengths():
    linear = torch.nn.Linear(4, 3)
    whole = torch.zeros(3, 4, dtype=torch.int8)
    linear.weight = torch.nn.Parameter(whole, requires_grad=False)
    model = torch.nn.Sequential(linear)
    report = adapters.attach_(model, adapters.LoRA(targets=("0",), rank=2), **QUICK)
    assert report.findings == ()
    with pytest.raises(UnsupportedError, match="quantised"):
        adapters.attach_(model, adapters.LoRA(targets=("0",), dora=True), name="second")


@pytest.mark.parametrize("name", ["a.b", "", "train", "default", "ü"])
def test_names_that_cannot_be_used(name):
    model = build("mamba")
    adapters.attach_(model, adapters.StateOffset(), **QUICK)
    with pytest.raises(InputError, match="adapter"):
        adapters.attach_(model, adapters.InitialState(), name=name)


def test_two_methods_on_one_tensor_are_refused():
    with pytest.raises(InputError, match="two methods"):
        adapters.attach_(build("mamba"), [adapters.StateOffset(), adapters.StateOffset(form="y")])


def test_methods_by_name_and_their_errors():
    for name in adapters.METHODS:
        settings = {"targets": ["D"]} if name == "parameters" else None
        method = adapters.by_name(name, settings)
        assert adapters.from_plain(method.as_plain()) == method
    assert adapters.by_name("lora", {"targets": ["in_proj"]}).targets == ("in_proj",)
    with pytest.raises(InputError, match="state-offset-h"):
        adapters.by_name("state-ofset-h")
    with pytest.raises(InputError, match="rank"):
        adapters.by_name("lora", {"rnak": 4})
    with pytest.raises(InputError, match="rank is 0"):
        adapters.by_name("lora", {"rank": 0})
    with pytest.raises(InputError, match="targets"):
        adapters.by_name("parameters")
