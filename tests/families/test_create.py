"""New language models of each family: their sizes, their start, and the cuts they allow."""

import pytest
import torch

from ssmith.core.errors import InputError
from ssmith.families.hf import SIZES, new_language_model

pytest.importorskip("transformers")
GIVEN = {
    "mamba": {"width": 12, "layers": 2, "states": 4},
    "mamba2": {"width": 16, "layers": 2, "states": 8, "head_width": 8, "groups": 2},
    "hybrid": {"width": 16, "layers": 3, "attention": (1,), "neurons": 24, "states": 8,
               "head_width": 8},
}  # fmt: skip


@pytest.mark.parametrize("family", SIZES)
def test_the_same_seed_gives_the_same_weights_and_none_of_them_is_empty(family):
    size = SIZES[family](**GIVEN[family])
    one, two, other = (new_language_model(size, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(item.isfinite().all() for item in one.values())
    assert one["lm_head.weight"].shape == (256, size.width)


@pytest.mark.parametrize("family", ["mamba2", "hybrid"])
def test_steps_and_decays_start_as_the_package_of_mamba_2_draws_them(family):
    model = new_language_model(SIZES[family](**GIVEN[family]), seed=0)
    mixers = [part for part in model.modules() if hasattr(part, "dt_bias")]
    assert len(mixers) == 2
    for mixer in mixers:
        steps = torch.nn.functional.softplus(mixer.dt_bias)
        assert steps.min() >= 0.001 and steps.max() <= 0.1 + 1e-6
        decays = mixer.A_log.exp()
        assert decays.min() >= 1 and decays.max() <= 16


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="heads of 5"):
        SIZES["mamba2"](width=16, layers=1, head_width=5)
    with pytest.raises(InputError, match="3 groups"):
        SIZES["mamba2"](width=16, layers=1, head_width=8, groups=3)
    with pytest.raises(InputError, match=r"layers \[4\]"):
        SIZES["hybrid"](width=16, layers=2, attention=(4,), neurons=8, head_width=8)
