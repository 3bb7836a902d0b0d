"""A checkpoint and its curve never replace anything else, and that is seen before any work."""

import pytest
import torch

from ssmith.core.errors import OutputExistsError
from ssmith.tune.training.checkpoint import (
    Checkpoint,
    Facts,
    check_place,
    curve_of,
    write_checkpoint,
)


@pytest.mark.parametrize("name", ["recipe.json", "notes.safetensors", "directory"])
def test_what_is_no_checkpoint_is_refused(tmp_path, name):
    path = tmp_path / name
    if name == "directory":
        path.mkdir()
    else:
        path.write_text("mine")
    with pytest.raises(OutputExistsError, match=f"{name} is there already and is no checkpoint"):
        check_place(path)
    assert path.is_dir() or path.read_text() == "mine"


def test_a_curve_of_nobody_is_refused_and_that_of_a_checkpoint_is_not(tmp_path):
    path = tmp_path / "ck.json"
    check_place(path)
    curve_of(path).write_text("mine")
    with pytest.raises(OutputExistsError, match=r"ck\.json\.curve\.json"):
        check_place(path)
    curve_of(path).unlink()
    facts = Facts(identity={})
    write_checkpoint(path, Checkpoint(losses=torch.ones(2, dtype=torch.float64), facts=facts))
    check_place(path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["ck.json", "ck.json.curve.json"]
