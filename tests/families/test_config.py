"""Configurations: there and back through JSON, and every refusal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.models import KINDS, Kind, make_model
from helpers.unchecked import build
from ssmith.core.errors import InputError, ModelError
from ssmith.families import LTIOptions, SequenceConfig, SequenceModel

BASE = {"family": "s5", "width": 3, "states": (4, 4), "outputs": 2, "channels": 2}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_there_and_back_through_json(kind):
    config = make_model(kind, classes=("a", "b", "c", "d")).config
    assert SequenceConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize(
    "wrong",
    [
        {"family": "mamba"},
        {"task": "ranking"},
        {"pooling": "max"},
        {"activation": "relu"},
        {"channels": None},
        {"vocabulary": 9},
        {"width": 0},
        {"width": 2.5},
        {"width": True},
        {"outputs": -1},
        {"channels": "two"},
        {"states": ()},
        {"states": (4, -1)},
        {"states": (4, "many")},
        {"states": (4, 2.0)},
        {"states": ((1, 2, 3),)},
        {"family": "s4d", "states": ((1, 2),)},
        {"family": "s4d", "states": ((1, 2, -3),)},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": "half"},
        {"blocks": 0},
        {"blocks": 1.5},
        {"initialisation": "chaos"},
        {"classes": ("one",)},
        {"task": "forecast", "outputs": 3},
        {"task": "forecast", "channels": None, "vocabulary": 4},
    ],
    ids=str,
)
def test_a_value_outside_its_domain(wrong):
    with pytest.raises(InputError):
        build(SequenceConfig, **{**BASE, **wrong})
    content = {**SequenceConfig(**BASE).as_dict(), **wrong}
    with pytest.raises(ModelError) as caught:
        build_from(content)
    # The type checker of the test run may be faster than the house, and wordier.
    if isinstance(caught.value.__cause__, InputError):
        assert "\n" not in str(caught.value)


def build_from(content):
    """Read a configuration as a file would hold it."""
    return SequenceConfig.from_dict(json.loads(json.dumps(content)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"discretisation": "dirac"},
        {"dt_min": 0.0},
        {"dt_min": -1.0},
        {"dt_min": 0.2, "dt_max": 0.1},
        {"dt_max": float("nan")},
        {"dt_max": float("inf")},
        {"dt_min": "small"},
        {"step_rescale": 0.0},
        {"step_rescale": float("nan")},
        {"step_rescale": float("inf")},
        {"step_rescale": "slow"},
        {"bidirectional": "yes"},
        {"conj_sym": 1},
        {"clip_eigs": None},
    ],
    ids=str,
)
def test_an_option_outside_its_domain(wrong):
    with pytest.raises(InputError):
        build(LTIOptions, **wrong)


@pytest.mark.parametrize("where", ["model", "options"])
def test_unknown_keys_are_named(where):
    content = SequenceConfig(**BASE).as_dict()
    (content if where == "model" else content["options"])["wings"] = 2
    with pytest.raises(ModelError, match="wings"):
        SequenceConfig.from_dict(content)


@pytest.mark.parametrize("key", ["family", "states", "width", "outputs"])
def test_missing_keys_are_named(key):
    content = SequenceConfig(**BASE).as_dict()
    del content[key]
    with pytest.raises(ModelError, match=key):
        SequenceConfig.from_dict(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=3,
)


@given(key=st.sampled_from(sorted(SequenceConfig(**BASE).as_dict())), value=json_values)
def test_whatever_stands_in_a_file_is_a_model_or_an_error_of_ours(key, value):
    content = SequenceConfig(**BASE).as_dict() | {key: value}
    try:
        config = SequenceConfig.from_dict(content)
    except ModelError:
        return
    SequenceModel(config)


@given(key=st.sampled_from(sorted(LTIOptions().__dict__)), value=json_values)
def test_whatever_stands_in_the_options_is_a_model_or_an_error_of_ours(key, value):
    content = SequenceConfig(**BASE).as_dict()
    content["options"] = content["options"] | {key: value}
    try:
        config = SequenceConfig.from_dict(content)
    except ModelError:
        return
    SequenceModel(config)


@given(content=json_values)
def test_a_file_that_is_no_configuration_at_all(content):
    with pytest.raises(ModelError):
        SequenceConfig.from_dict(content)


def test_a_cut_layer_keeps_its_blocks_setting():
    # Five states do not make two blocks, yet the values are loaded and not drawn.
    config = SequenceConfig(**{**BASE, "states": (5,), "blocks": 2})
    assert SequenceModel(config).blocks[0].ssm.n_states == 5


def test_kinds_cover_what_they_claim():
    assert len(set(map(str, KINDS))) == 24
    assert Kind("s4d_ragged").states == (4, 0, 2)
