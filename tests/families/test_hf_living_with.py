"""The engine beside what else is done to a model: threads, compilers, copies, adapters, offload."""

import copy
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families.hf import accelerate_, engine, restore_
from ssmith.families.hf.engine import runs_on_engine
from ssmith.ops.backends import choose

pytest.importorskip("transformers")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def mixers_run(model):
    return {runs_on_engine(part) for part in model.modules() if hasattr(part, "A_log")}


def test_blocks_that_overlap_restore_once_the_last_has_ended():
    model = tiny("mamba")
    first, second = engine(model), engine(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert mixers_run(model) == {True}
    second.__exit__(None, None, None)
    assert mixers_run(model) == {False}
    assert not any("ssmith" in key for part in model.modules() for key in vars(part))


def test_what_is_accelerated_inside_a_block_stays_so():
    model = tiny("mamba")
    with engine(model):
        with engine(model):
            assert mixers_run(copy.deepcopy(model)) == {False}
        accelerate_(model)
    assert mixers_run(model) == {True}
    with engine(model):
        pass
    assert mixers_run(model) == {True}
    restore_(model)
    assert mixers_run(model) == {False}


def test_threads_share_a_model(name):
    model, ids = tiny(name), tokens(4, 21)
    with engine(model), torch.no_grad():
        alone = [model(row[None]).logits for row in ids]
    found, stock = {}, []

    def work(number):
        for _ in range(3):
            with engine(model), torch.no_grad():
                found[number] = model(ids[number][None]).logits
                stock.extend(mixers_run(model) - {True})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stock == []
    assert mixers_run(model) == {False}
    for number, wanted in enumerate(alone):
        assert torch.equal(found[number], wanted)


def test_a_path_can_be_required_where_the_engine_is_asked_for():
    model = tiny("mamba2")
    scan = choose("ssd", model.backbone.layers[0].mixer.A_log).backend
    assert engine(model, require=scan).__enter__().layers
    other = tiny("mamba", dtype=torch.float64)
    for ask in (accelerate_, lambda *args, **named: engine(*args, **named).__enter__()):
        with pytest.raises(UnsupportedError, match="selective_scan would run on 'torch'"):
            ask(other, require="native")
    assert mixers_run(other) == {False}


COMPILED = """
import torch
from helpers.tiny_mamba import tiny, tokens
from ssmith.families.hf import engine

for name in ("mamba", "mamba2"):
    model, ids = tiny(name, num_hidden_layers=1), tokens(2, 12)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    with engine(model), torch.no_grad():
        wanted = model(ids, attention_mask=mask, use_cache=False).logits
        found = torch.compile(model, backend="eager")(ids, attention_mask=mask, use_cache=False)
        assert (found.logits - wanted)[mask.bool()].abs().max() < 1e-5, name
"""


def test_a_compiled_model_computes_the_same():
    # The type checks of the test run cannot be compiled, so a process without them does it.
    place = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILED],
        env={**os.environ, "PYTHONPATH": place}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


@torch.no_grad()
def test_a_saved_program_starts_without_the_engine(name):
    model, ids = tiny(name), tokens(1, 8)
    wanted, file = model(ids).logits, io.BytesIO()
    with engine(model):
        torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert mixers_run(loaded) == {False}
    assert torch.equal(loaded(ids).logits, wanted)


class Doubled(nn.Module):
    """Stands where an adapter would: it changes what the layer inside gives."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, x):
        return 2.0 * self.inner(x)


@pytest.mark.parametrize("layer", ["in_proj", "conv1d", "x_proj", "dt_proj", "out_proj"])
@torch.no_grad()
def test_what_stands_around_a_layer_takes_part(layer):
    model, ids = tiny("mamba", dtype=torch.float64), tokens(1, 9)
    mixer = model.backbone.layers[0].mixer
    with engine(model):
        before = model(ids).logits
        setattr(mixer, layer, Doubled(getattr(mixer, layer)))
        changed = model(ids).logits
        begun = model(ids[:, :5], use_cache=True)
        rest = model(ids[:, 5:], cache_params=begun.cache_params).logits
    assert (changed - before).abs().max() > 1e-4
    assert (rest - changed[:, 5:]).abs().max() < 2e-6


def test_an_offloaded_model_is_refused_in_words(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    model = tiny("mamba")
    accelerate.cpu_offload(model, torch.device("cpu"))
    with pytest.raises(UnsupportedError, match="its weights are offloaded by accelerate"):
        accelerate_(model)


@pytest.mark.parametrize("size", [1, 0])
def test_a_mask_of_another_shape_is_refused(size):
    model = tiny_hybrid("jamba") if size else tiny("mamba")
    mixer = next(part for part in model.modules() if hasattr(part, "A_log"))
    with engine(model), pytest.raises(InputError, match="attention_mask has shape"):
        mixer(torch.zeros(1, 4, 20), None, torch.ones(1, 2))


@torch.no_grad()
def test_beams_are_reordered_as_stock_does(name):
    model, ids = tiny(name), tokens(2, 7)
    settings = {"max_new_tokens": 8, "do_sample": False, "num_beams": 3}
    mask = torch.ones_like(ids)
    stock = model.generate(ids, attention_mask=mask, **settings)
    with engine(model):
        assert torch.equal(model.generate(ids, attention_mask=mask, **settings), stock)
