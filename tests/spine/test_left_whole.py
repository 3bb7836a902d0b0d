"""Projections whose rows a pattern does not divide stay whole, and that is said."""

import pytest

import ssmith as sm
from helpers.tiny_mamba import tiny, tokens
from ssmith.core.errors import InputError


def test_rows_that_a_pattern_does_not_divide_stay_whole_and_are_named():
    model = tiny("mamba", time_step_rank=3)
    rows = sm.rows([tokens(2, 16)], forward=lambda model, ids: model(input_ids=ids))
    plan = sm.plan(model, sm.Budget("weight", "2:4"), rows)
    kept = plan.cuts[0].keep.items()
    cut = {name.rpartition("mixer.")[2] for name, keep in kept if not bool(keep.all())}
    assert cut == {"in_proj.weight", "x_proj.weight", "out_proj.weight"}
    said = [item for item in plan.findings if item.kind == "whole"]
    assert {item.message.partition(" ")[0].rpartition(".")[2] for item in said} == {"dt_proj"}
    with pytest.raises(InputError, match="no projection whose rows can be divided for 2:4"):
        sm.plan(model, sm.Budget("weight", "2:4", targets=("dt_proj",)), rows)
