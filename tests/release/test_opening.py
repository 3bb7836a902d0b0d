"""Real models come into a line as they are, once they open and verify; anything else stays out."""

import json
import shutil

import pytest
import torch

from helpers.lines import Shelf, files_of, receipt
from helpers.models import Kind, make_model
from helpers.tiny_mamba import tiny
from ssmith import adapters, api
from ssmith.artefact import load, verify
from ssmith.core.budget import Budget
from ssmith.core.errors import ArtefactError, InputError, ModelError, SsmithError
from ssmith.families import S5Layer, model_digest
from ssmith.release.adding import keep
from ssmith.release.evidence import read_paper
from ssmith.release.lineage import lineage_of
from ssmith.release.manifest import kept_manifest
from ssmith.release.opening import opened, receipts_with
from ssmith.release.promotion import promote
from ssmith.release.verify import verify as verify_line
from ssmith.spine import plan


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A dense model, one cut from it, an adapter on that, and a checkpoint of another tool."""
    place = tmp_path_factory.mktemp("models")
    dense, small = (make_model(Kind("s5"), dtype=torch.float32) for _ in range(2))
    api.save(dense, place / "dense")
    done = api.prune_(small, plan(dense, Budget("state", 0.5, method="last")))
    parent = model_digest(dense)
    receipt = done.to_json().encode()
    api.save(small, place / "small", parent=parent, extra_files={"receipt.json": receipt})
    (place / "small.json").write_bytes(receipt)
    tuned = api.load(place / "small")
    api.adapt_(tuned, adapters.StateOffset(form="y"))
    api.save_adapter(tuned, place / "adapter", base=str(place / "small"))
    foreign = tiny("mamba")
    foreign.save_pretrained(place / "foreign")
    return place


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def bring(shelf, path, **more):
    papers = [read_paper(item) for item in receipts_with(path)]
    return keep(shelf.line, opened(path), papers=papers, **more)


def test_every_kind_is_kept_as_it_was_and_opens_from_the_line(shelf, models):
    line = shelf.line
    for name in ("dense", "small", "adapter", "foreign"):
        version = bring(shelf, models / name)
        kept = files_of(version.path)
        kept.pop("base", None)
        assert kept == files_of(models / name)
        found = load(version.path).state_dict()
        wanted = load(models / name).state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
        assert kept_manifest(line.path, version.digest).digest == version.digest
        assert promote(line, version).promoted
        again = load(line.path / "live").state_dict()
        assert all(torch.equal(again[key], wanted[key]) for key in wanted)
    ways = {
        item.name.rsplit("/")[-1]: lineage_of(item, line.versions()) for item in line.versions()
    }
    assert [item.name.rsplit("/")[-1] for item in ways["adapter"].versions] == [
        "adapter", "small", "dense",
    ]  # fmt: skip
    assert ways["small"].whole
    assert not ways["foreign"].whole
    assert verify_line(line).passed


def test_an_adapter_brings_its_base_and_outlives_it(shelf, models, tmp_path):
    shutil.copytree(models / "small", tmp_path / "base")
    tuned = api.load(tmp_path / "base")
    api.adapt_(tuned, adapters.StateOffset(form="y"))
    api.save_adapter(tuned, tmp_path / "adapter", base=str(tmp_path / "base"))
    wanted = model_digest(load(tmp_path / "adapter"))
    version = bring(shelf, tmp_path / "adapter")
    shutil.rmtree(tmp_path / "base")
    assert model_digest(load(version.path)) == wanted == version.tensors
    assert [item.action for item in shelf.line.entries()] == ["init", "add", "add"]
    assert all(check.passed for check in verify(version.path))
    # From one line to another: the base comes along.
    other = Shelf(tmp_path / "other")
    assert bring(other, version.path).digest == version.digest
    with pytest.raises(ArtefactError, match=r"the base of .* cannot be opened"):
        opened(tmp_path / "adapter")


def test_a_receipt_must_speak_of_these_numbers(shelf, models):
    paper = read_paper(models / "small.json")
    dense = opened(models / "dense")
    with pytest.raises(InputError, match="does not speak of this version") as caught:
        keep(shelf.line, dense, papers=[paper])
    assert dense.tensors in str(caught.value)
    assert paper.receipt.model.digest_after in str(caught.value)
    assert len(shelf.line.entries()) == 1
    small = keep(shelf.line, opened(models / "small"), papers=[paper])
    assert small.kept(small.added.receipts[0]) == paper.receipt


@pytest.mark.parametrize(("wrong", "said"), [
    ({"receipt_version": 99}, "receipt_version is 99"),
    ({"time": 5}, "time is 5"),
    ({"model": {"digest_after": 5}}, "model.digest_after is 5"),
    ({"more": 1}, "is not a receipt of ours: it has more"),
])  # fmt: skip
def test_a_receipt_that_cannot_be_read_is_refused_by_name(tmp_path, wrong, said):
    (tmp_path / "receipt.json").write_text(json.dumps(receipt("small") | wrong))
    with pytest.raises(ArtefactError, match=f"receipt.json.*{said}"):
        read_paper(tmp_path / "receipt.json")


def test_a_network_that_its_own_class_opens_is_kept(shelf, tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(S5Layer(2, 4), torch.nn.Linear(4, 2))
    api.save(network, tmp_path / "own")
    version = bring(shelf, tmp_path / "own")
    assert version.tensors == model_digest(network)
    assert promote(shelf.line, version).promoted
    assert verify_line(shelf.line).passed


def test_the_same_bytes_are_one_version(shelf, models):
    first = bring(shelf, models / "dense")
    again = bring(shelf, models / "dense")
    assert again == first
    assert [item.action for item in shelf.line.entries()] == ["init", "add"]
    # A receipt that is new is noted with it.
    small = keep(shelf.line, opened(models / "small"))
    paper = read_paper(models / "small.json")
    for _ in range(2):
        keep(shelf.line, opened(models / "small"), papers=[paper])
    assert [item.action for item in shelf.line.entries()][2:] == ["add", "note"]
    assert shelf.line.version(small.digest).evidence[-1].receipts


def spoil(path, how):
    if how == "a flipped byte":
        content = bytearray((path / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (path / "model.safetensors").write_bytes(content)
    elif how == "cut off":
        content = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").write_bytes(content[: len(content) // 2])
    elif how == "no weights":
        (path / "model.safetensors").unlink()
    elif how == "a pickle":
        (path / "training_args.bin").write_bytes(b"\x80\x04.")
    elif how == "a file that no manifest names":
        (path / "more.txt").write_text("more")
    elif how == "a link to a directory":
        (path / "more").symlink_to("..")
    elif how == "empty":
        for item in path.iterdir():
            item.unlink()


@pytest.mark.parametrize("how", [
    "a flipped byte", "cut off", "no weights", "a pickle", "a file that no manifest names",
    "a link to a directory", "empty",
])  # fmt: skip
def test_what_does_not_open_stays_outside(shelf, models, tmp_path, how):
    shutil.copytree(models / "small", tmp_path / "bad")
    spoil(tmp_path / "bad", how)
    before = files_of(shelf.line.path)
    with pytest.raises(SsmithError) as caught:
        keep(shelf.line, opened(tmp_path / "bad"))
    assert "bad" in str(caught.value)
    assert files_of(shelf.line.path) == before


def test_a_checkpoint_that_is_not_finite_or_of_no_kind_stays_outside(shelf, models, tmp_path):
    broken = tiny("mamba")
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    broken.save_pretrained(tmp_path / "nan")
    with pytest.raises(SsmithError):
        opened(tmp_path / "nan")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises((ModelError, ArtefactError)):
        opened(tmp_path / "odd")


def test_a_file_that_changes_while_it_is_read_is_noticed(shelf, models, tmp_path):
    shutil.copytree(models / "small", tmp_path / "moving")
    artefact = opened(tmp_path / "moving")
    (tmp_path / "moving" / "config.json").write_text("{}")
    before = files_of(shelf.line.path)
    with pytest.raises(ArtefactError, match="changed while it was read"):
        keep(shelf.line, artefact)
    assert files_of(shelf.line.path) == before


def test_a_line_does_not_swallow_itself(shelf, models, tmp_path):
    inside = Shelf(tmp_path / "model" / "deep")
    shutil.copytree(models / "foreign", tmp_path / "model", dirs_exist_ok=True)
    with pytest.raises(InputError, match="the line lies in"):
        keep(inside.line, opened(tmp_path / "model"))
