"""Long inputs on the engine: memory linear in length in both passes, and right beyond 61k steps."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith.families.hf import engine
from ssmith.ops.backends import use_backend

DynamicCache = pytest.importorskip("transformers").DynamicCache
FAMILIES = (*NAMES, "jamba", "zamba", "zamba2", "bamba", "falcon_h1", "granitemoehybrid")
LONG = 70_000


class Work(TorchDispatchMode):
    """Adds up the operations that run and the numbers they write."""

    def __init__(self):
        super().__init__()
        self.operations = self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        for item in out if isinstance(out, tuple | list) else (out,):
            self.numbers += item.numel() if isinstance(item, torch.Tensor) else 0
        return out


def mixer_of(name):
    model = tiny(name) if name in NAMES else tiny_hybrid(name)
    return next(part for part in model.modules() if hasattr(part, "A_log")).train()


def cost(mixer, length):
    """Return bytes saved for the backward pass, and the numbers it writes in that pass."""
    hidden = torch.randn(1, length, 20, generator=torch.Generator().manual_seed(0))
    saved = {}

    def keep(tensor):
        saved[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = mixer(hidden.requires_grad_()).square().sum()
    with Work() as work:
        loss.backward()
    return sum(saved.values()), work.numbers


@pytest.mark.parametrize("backend", ["torch", None])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_backward_pass_is_linear_in_length(name, backend):
    mixer = mixer_of(name)
    with engine(mixer):
        if backend is None:
            once, twice = cost(mixer, 512), cost(mixer, 1024)
        else:
            with use_backend(backend):
                once, twice = cost(mixer, 512), cost(mixer, 1024)
    for at_once, at_twice in zip(once, twice, strict=True):
        assert 0 < at_twice <= 2.2 * at_once


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
@torch.no_grad()
def test_an_input_of_70_000_steps_equals_its_chunks(name):
    mixer = mixer_of(name).eval()
    hidden = torch.randn(1, LONG, 20, generator=torch.Generator().manual_seed(1))
    with engine(mixer):
        whole = mixer(hidden)
        cache = DynamicCache(config=tiny(name).config)
        pieces = [mixer(part, cache_params=cache) for part in hidden.split(20_001, dim=1)]
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < 1e-5
    # The end of the input is as alive as its start.
    assert whole[:, -100:].std() > 0.5 * whole[:, :100].std() > 0


@torch.no_grad()
def test_a_long_prompt_is_continued_as_it_was_read():
    model, ids = tiny("mamba", num_hidden_layers=1), tokens(1, 4100)
    with engine(model):
        begun = model(ids[:, :4097], use_cache=True)
        rest = model(ids[:, 4097:], cache_params=begun.cache_params).logits
        assert (rest - model(ids).logits[:, 4097:]).abs().max() < 2e-5
