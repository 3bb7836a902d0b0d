"""The methods that are defined on hybrids, on every hybrid the engine runs."""

import pytest
import torch

from helpers.adapting import METHODS, disturb_, gap, run
from helpers.tiny_hybrids import HYBRIDS, tiny_hybrid
from helpers.tiny_mamba import tokens
from ssmith import adapters, load_adapter_, merge_adapter_, save_adapter
from ssmith.core.errors import UnsupportedError
from ssmith.families.hf import engine

METHOD_NAMES = ("offset-both", "initial-state", "bitfit", "lora", "combined")
# transformers rounds norms and logits of a float64 model to float32.
TOLERANCE = 5e-6


@pytest.fixture(params=HYBRIDS)
def family(request):
    return request.param


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_method_acts_is_proven_and_survives_its_file(family, method, tmp_path):
    batch = {"input_ids": tokens(2, 14)}
    model = tiny_hybrid(family, dtype=torch.float64)
    with engine(model):
        base = run(model, batch)
    report = adapters.attach_(model, METHODS[method])
    assert all(norm > 0 for norm in report.proof.values())
    matched, total = report.coverage["ssm"]
    assert matched == total > 0
    assert gap(run(model, batch), base) <= TOLERANCE
    disturb_(model)
    wanted = run(model, batch)
    assert gap(wanted, base) > 1e-4
    save_adapter(model, tmp_path / "adapter")
    other = tiny_hybrid(family, dtype=torch.float64)
    load_adapter_(other, tmp_path / "adapter", name="default")
    assert gap(run(other, batch), wanted) <= TOLERANCE
    if method == "lora" and family == "zamba":
        with pytest.raises(UnsupportedError, match="its weight is shared by"):
            merge_adapter_(other)
        left = merge_adapter_(other, allow_partial=True).left
        assert left and not any("mamba" in place for place in left)
        assert gap(run(other, batch), wanted) <= TOLERANCE
    elif method in ("bitfit", "lora"):
        merge_adapter_(other)
        with engine(other):
            assert gap(run(other, batch), wanted) <= TOLERANCE
    else:
        with pytest.raises(UnsupportedError, match="cannot be merged"):
            merge_adapter_(other)
