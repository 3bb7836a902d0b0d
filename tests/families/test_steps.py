"""Step by step is the whole sequence, in every family that has steps; the others say why not."""

import pytest
import torch

from helpers.adapting import METHODS, PAIRS, batch_for, build, disturb_
from helpers.models import KINDS, ONE_WAY, make_input, make_model
from helpers.tiny_hybrids import HYBRIDS, tiny_hybrid
from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith import adapters
from ssmith.core.errors import UnsupportedError
from ssmith.families.heads import HeadConfig, with_head
from ssmith.families.registry import FAMILIES, sites
from ssmith.families.steps import steps_of

CLOSE = 1e-6


def stepped(model, x):
    """Return the answer after each step, rows in another order every time."""
    steps, order = steps_of(model), torch.arange(len(x))
    out, state = steps.first(x[:, 0])
    found = [out]
    for t in range(1, x.shape[1]):
        turn = torch.randperm(len(x), generator=torch.Generator().manual_seed(t))
        order = order[turn]
        out, state = steps.next(x[order, t], {name: held[turn] for name, held in state.items()})
        found.append(out[order.argsort()])
    return torch.stack(found, dim=1)


@torch.no_grad()
def check(model, x):
    found = stepped(model, x)
    for length in (1, 2, x.shape[1]):
        whole = model(x[:, :length])
        wanted = whole if isinstance(whole, torch.Tensor) else whole.logits[:, -1]
        assert (found[:, length - 1] - wanted).abs().max() < CLOSE
    assert (found[:, 0] - found[:, -1]).abs().max() > 1e-4


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("kind", ONE_WAY, ids=str)
def test_sequence_models(kind, pooling):
    model = make_model(kind, pooling=pooling)
    check(model, make_input(model))


def test_sequence_models_of_tokens():
    model = make_model(ONE_WAY[0], vocabulary=7)
    check(model, make_input(model))


@pytest.mark.parametrize("name", NAMES)
def test_language_models(name):
    check(tiny(name, dtype=torch.float64), tokens(3, 9))


@pytest.mark.parametrize("settings", [{"pooling": "mean"}, {"pooling": "last", "channels": 2}])
@pytest.mark.parametrize("name", NAMES)
def test_heads(name, settings):
    config = HeadConfig(outputs=3, **settings)
    model = with_head(tiny(name, dtype=torch.float64), config, torch.Generator()).eval()
    x = torch.randn(3, 9, 2, dtype=torch.float64) if config.channels else tokens(3, 9)
    check(model, x)


@pytest.mark.parametrize(
    "pair", [pair for pair in PAIRS if pair[0] in ("mamba", "s5")], ids="-".join
)
def test_adapters(pair):
    model = build(pair[0])
    adapters.attach_(model, METHODS[pair[1]], prove=False)
    disturb_(model)
    (x,) = batch_for(pair[0]).values()
    check(model, x)


def test_every_family_of_state_spaces_is_tried():
    tried = [make_model(kind) for kind in ONE_WAY] + [tiny(name) for name in NAMES]
    named = {site.family.name for model in tried for site in sites(model).values()}
    refused = {site.family.name for name in HYBRIDS for site in sites(tiny_hybrid(name)).values()}
    assert {family.name for family in FAMILIES} <= named | refused


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.bidirectional], ids=str)
def test_a_model_that_needs_the_future_is_refused(kind):
    with pytest.raises(UnsupportedError, match="bidirectional"):
        steps_of(make_model(kind))


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_model_with_attention_is_refused(name):
    with pytest.raises(UnsupportedError, match="attention"):
        steps_of(tiny_hybrid(name))


def test_other_networks_are_refused():
    with pytest.raises(UnsupportedError, match="Linear is not known to have steps"):
        steps_of(torch.nn.Linear(2, 2))
