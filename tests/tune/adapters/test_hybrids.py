"""The methods that are defined on hybrids, on every hybrid the engine runs."""

import pytest
import torch

from helpers.adapting import disturb_, gap, run
from helpers.tiny_hybrids import HYBRIDS, tiny_hybrid
from helpers.tiny_mamba import tokens
from ssmith import adapters, load_adapter_, merge_adapter_, save_adapter
from ssmith.core.errors import UnsupportedError
from ssmith.families.hf import engine

MERGES = (adapters.BitFit(), adapters.LoRA(rank=2))
TOGETHER = (adapters.StateOffset(form="both"), adapters.InitialState(), *MERGES)
# transformers rounds norms and logits of a float64 model to float32.
TOLERANCE = 5e-6


@pytest.fixture(params=HYBRIDS)
def family(request):
    return request.param


def build(family):
    return tiny_hybrid(family, dtype=torch.float64)


def test_methods_act_are_proven_and_survive_their_file(family, tmp_path):
    batch = {"input_ids": tokens(2, 14)}
    model = build(family)
    with engine(model):
        base = run(model, batch)
    report = adapters.attach_(model, TOGETHER)
    assert all(norm > 0 for norm in report.proof.values())
    matched, total = report.coverage["ssm"]
    assert matched == total > 0
    assert gap(run(model, batch), base) <= TOLERANCE
    disturb_(model)
    wanted = run(model, batch)
    assert gap(wanted, base) > 1e-4
    save_adapter(model, tmp_path / "adapter")
    other = build(family)
    load_adapter_(other, tmp_path / "adapter", name="default")
    assert gap(run(other, batch), wanted) <= TOLERANCE


def test_what_merges_is_merged_and_shared_weights_are_refused(family):
    batch = {"input_ids": tokens(2, 14)}
    model = build(family)
    adapters.attach_(model, MERGES, prove=False)
    disturb_(model)
    wanted = run(model, batch)
    shared = family == "zamba"
    if shared:
        with pytest.raises(UnsupportedError, match="its weight is shared by"):
            merge_adapter_(model)
    report = merge_adapter_(model, allow_partial=shared)
    assert bool(report.left) == shared
    with engine(model):
        assert gap(run(model, batch), wanted) <= TOLERANCE
