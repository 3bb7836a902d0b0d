"""What is to open a result is asked before anything is measured, and again of the plan."""

import copy

import pytest

import ssmith as sm
from helpers.every_unit import build
from helpers.tiny_mamba import tiny
from ssmith.artefact.openers import check_opens
from ssmith.core.errors import UnsupportedError
from ssmith.spine import outline

pytest.importorskip("transformers")
HALF = {unit: sm.Budget(unit, 0.5) for unit in ("state", "head", "head_dim", "neuron")}


@pytest.mark.parametrize(
    ("name", "budget", "opens"),
    [
        ("bamba", HALF["state"], True),
        ("bamba", sm.Budget("state", 0.5, method="balanced"), False),
        ("bamba", HALF["neuron"], True),
        # Half of the heads leave an expansion of 1, a quarter of their channels none that is whole.
        ("bamba", HALF["head"], True),
        ("bamba", sm.Budget("head_dim", 0.25), False),
        ("falcon_h1", sm.Budget("head_dim", 0.25), True),
    ],
)
def test_an_outline_says_before_the_cut_what_the_cut_says_after(name, budget, opens, tmp_path):
    model = build(name)
    before = copy.deepcopy(model.state_dict())
    plan = outline(model, [budget])
    for target in ("stock", "llama.cpp", "vllm"):
        if opens:
            check_opens(target, model, plan)
        else:
            with pytest.raises(UnsupportedError, match=f"{target} would not open the result: no;"):
                check_opens(target, model, plan)
    assert check_opens("engine", model, plan)[1] == ""
    assert all(bool((model.state_dict()[name] == value).all()) for name, value in before.items())


def test_llama_cpp_takes_mamba_of_twice_the_width_only():
    narrow = tiny("mamba", hidden_size=16, expand=1)
    with pytest.raises(UnsupportedError, match="twice the width, 32, and these are 16"):
        check_opens("llama.cpp", narrow, outline(narrow, [HALF["state"]]))
    check_opens("stock", narrow, outline(narrow, [HALF["state"]]))
    wide = tiny("mamba", hidden_size=16)
    assert check_opens("llama.cpp", wide, outline(wide, [HALF["state"]]))[1] == ""


@pytest.mark.parametrize(("states", "beside"), [(256, ""), (128, "these are 64, 32, 256")])
def test_the_cuda_kernels_of_llama_cpp_take_two_state_sizes(states, beside):
    sizes = {"num_heads": 4, "head_dim": 32, "expand": 2, "hidden_size": 64}
    model = tiny("mamba2", state_size=states, n_groups=1, **sizes)
    said = check_opens("llama.cpp", model, outline(model, [HALF["state"]]))[1]
    assert beside in said
    assert bool(said) == bool(beside)


def test_layers_that_are_no_transformers_open_in_the_engine_alone():
    model = sm.load("embedded:power-s4d")
    with pytest.raises(UnsupportedError, match="no; ssmith opens it"):
        check_opens("stock", model, outline(model, [sm.Budget("state", 0.5)]))
