import json

import pytest
import torch
from torch import nn

from helpers.models import KINDS, make_model
from helpers.tiny_hybrids import HYBRIDS, tiny_hybrid
from helpers.tiny_mamba import NAMES, tiny
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.running import evaluating
from ssmith.families import answers_of
from ssmith.families.heads import HeadConfig, with_head
from ssmith.families.registry import FAMILIES
from ssmith.trials.canary.interleave import CanaryConfig, interleave
from ssmith.trials.canary.local import canary_of
from ssmith.trials.canary.sequences import Stepping

SOME = CanaryConfig(requests=24, slots=5, longest=9, following=4)
LANGUAGE = CanaryConfig(requests=10, slots=4, longest=9, following=3, cancel=0.4)


def check_thorough(seen, config):
    assert seen.passed, seen.headline
    assert seen.requests == config.requests
    assert {1, 2, 3} <= seen.sizes
    assert seen.reused >= config.requests - config.slots - 1
    if seen.carries:
        assert seen.cancelled > 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_interleaved_sequences_are_answered_as_alone(kind):
    seen = canary_of(make_model(kind, dtype=torch.float32), SOME)
    assert seen.carries != kind.bidirectional
    check_thorough(seen, SOME)


@pytest.mark.parametrize("changes", [{"vocabulary": 7, "channels": None}, {"pooling": "last"}])
def test_tokens_and_the_last_step_too(changes):
    check_thorough(canary_of(make_model(KINDS[0], dtype=torch.float32, **changes), SOME), SOME)


def language_model(name):
    return tiny(name) if name in NAMES else tiny_hybrid(name)


@pytest.mark.parametrize("name", (*NAMES, *HYBRIDS))
def test_interleaved_prompts_are_answered_as_alone(name):
    check_thorough(canary_of(language_model(name), LANGUAGE), LANGUAGE)


def test_every_family_that_is_loaded_has_its_canary():
    tried = {"s5", "s4d", "mamba", "mamba2", "zamba"}
    assert {family.name for family in FAMILIES if family.kind == "ssm"} <= tried


def test_a_head_on_a_language_model_answers_whole_sequences():
    model = with_head(tiny("mamba"), HeadConfig(outputs=3, channels=2))
    seen = canary_of(model.eval(), SOME)
    assert not seen.carries
    check_thorough(seen, SOME)


class Mixing(nn.Module):
    """Lets every row of a batch hear the others, a little."""

    def __init__(self, inner, share):
        super().__init__()
        self.inner, self.share = inner, share

    def forward(self, *given, **more):
        out = self.inner(*given, **more)
        return out + self.share * (out.mean(0, keepdim=True) - out)


class Remembering(nn.Module):
    """Adds what it answered last time, whoever asked."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.last = inner, None

    def forward(self, x):
        out = self.inner(x)
        mixed = out if self.last is None else out + 0.1 * self.last.mean(0)
        self.last = out.detach()
        return mixed


@pytest.mark.parametrize("share", [0.5, 1e-3])
def test_a_batch_that_leaks_is_caught_with_the_pair(share):
    model = make_model(KINDS[0], dtype=torch.float32)
    model.norm = Mixing(model.norm, share)
    seen = canary_of(model, SOME)
    assert not seen.passed
    leak = seen.leaks[0]
    assert leak.other is not None
    assert leak.other != leak.request
    assert (leak.how, leak.repeated) == ("they ran in one batch", True)
    assert f"request {leak.other} leaked into it" in leak.text


def test_a_language_model_that_leaks_is_caught():
    model = tiny("mamba")
    model.backbone.norm_f = Mixing(model.backbone.norm_f, 1e-2)
    seen = canary_of(model, LANGUAGE)
    assert not seen.passed
    assert seen.leaks[0].repeated


def test_a_network_that_remembers_its_last_client_is_caught():
    model = make_model(KINDS[0], dtype=torch.float32)
    model.norm = Remembering(model.norm)
    assert not canary_of(model, SOME).passed


class Forgetful(Stepping):
    """Gives a slot to a new request and leaves in it what was there."""

    def begin(self, requests):
        self.held |= requests


def test_a_slot_that_is_not_wiped_reads_poison():
    model = make_model(KINDS[0], dtype=torch.float32)
    subject = Forgetful(model=model, answers=answers_of(model), longest=5, seed=0)
    with evaluating(model):
        seen = interleave(subject, CanaryConfig(requests=6, slots=2))
    assert not seen.passed
    assert all(leak.section().difference is None for leak in seen.leaks)


def test_the_command_tells_and_keeps_its_receipt(place, ssmith):
    ended = ssmith("canary", "old", "--requests", "20", "--out", "canary")
    assert ended.code == 0, ended.err
    assert "20 requests" in ended.out
    receipt = json.loads((place / "canary" / "receipt.json").read_text())
    assert (receipt["action"], receipt["details"]["passed"]) == ("canary", True)
    again = ssmith("canary", "old", "--requests", "20", "--json")
    assert again.document["details"] == receipt["details"]


@pytest.mark.parametrize(
    "settings", [{"requests": 1}, {"slots": 1}, {"cancel": 1.0}, {"longest": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError):
        CanaryConfig(**settings)


def test_a_network_without_a_known_input_is_refused():
    with pytest.raises(UnsupportedError, match="Linear neither reads tokens"):
        canary_of(nn.Linear(2, 2))
