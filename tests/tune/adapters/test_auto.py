"""What auto tries: the first of those that gain most, of the size that was asked for."""

import pytest

from helpers.adapting import build
from ssmith import adapters, api
from ssmith.core.errors import InputError
from ssmith.tune.adapters.auto import LTI, SELECTIVE, Auto
from ssmith.tune.adapters.survey import Survey


def sizes(model):
    """How many numbers each adapter's file holds, by attaching and counting; of the model, too."""
    found = {}
    for name in SELECTIVE if Survey.of(model).mixers else LTI:
        adapters.attach_(model, adapters.from_plain(name), name="trial", prove=False)
        if name.startswith("core"):
            for tensor in adapters.trainable(model, "trial").values():
                tensor.data.add_(0.01)
                tensor.data[0, 0] += 1
            adapters.select_(model, "trial")
        found[name] = sum(tensor.numel() for tensor in adapters.state(model, "trial").values())
        adapters.detach_(model, "trial")
    return found, sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", ["mamba", "mamba2", "s5"])
def test_it_tries_the_first_three_that_are_small_enough(family):
    model = build(family)
    found, whole = sizes(model)
    for size in (1.0, 0.5, 0.25, 0.1, 0.05):
        wanted = [name for name, stored in found.items() if stored <= size * whole][:3]
        if wanted:
            assert list(Auto(size=size).names(Survey.of(model))) == wanted
    least = min(found, key=found.get)
    with pytest.raises(InputError, match=rf"{least}, stores {found[least]:,} of {whole:,}"):
        Auto(size=0.5 * found[least] / whole).names(Survey.of(model))


def test_who_names_candidates_gets_them_or_those_of_the_size():
    survey = Survey.of(build("mamba"))
    names = ("full", "state-offset-y")
    assert Auto(candidates=names).names(survey) == names
    assert Auto(candidates=names, size=0.9).names(survey) == ("state-offset-y",)
    with pytest.raises(InputError, match="size is 2"):
        Auto(size=2.0)


def test_a_wide_core_trains_as_many_numbers_as_lora_of_its_layers():
    model = api.load("embedded:python-mamba")
    adapters.attach_(model, adapters.LoRA(targets=("in_proj", "out_proj")), prove=False)
    rivals = sum(tensor.numel() for tensor in adapters.trainable(model).values())
    adapters.detach_(model, "default")
    survey, ranks = Survey.of(model), 0
    core = adapters.from_plain("core-wide")
    for name, part in survey.modules.items():
        if name.endswith(("in_proj", "out_proj")):
            ranks += core._rank(part) ** 2
    assert 0.96 * rivals < ranks <= rivals
