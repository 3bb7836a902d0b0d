"""What leaves a line: the same bytes every time, with what it rests on; it opens outside."""

import dataclasses
import hashlib
import os
import re
import signal
import tarfile

import pytest

from helpers.lines import Shelf, artefact, files_of, paper, receipt, relaxed, tensors_of
from ssmith.core.errors import ArtefactError, InputError, OutputExistsError, SsmithError
from ssmith.release.adding import Artefact, keep
from ssmith.release.export import export
from ssmith.release.lineage import lineage_of
from ssmith.release.manifest import manifest_of
from ssmith.release.policy import policy_from, read_policy


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


def adapter_of(shelf):
    base = artefact(shelf.place / "shelf" / "base", "base")
    tuned = artefact(shelf.place / "shelf" / "tuned", "tuned", base=base, parent="base")
    papers = [paper(shelf.place / "tuned.json", receipt("tuned"))]
    return keep(shelf.line, tuned, papers=papers)


def test_a_directory_holds_the_version_its_base_and_its_receipts(shelf, tmp_path):
    version = adapter_of(shelf)
    export(shelf.line, version, tmp_path / "out")
    found = files_of(tmp_path / "out")
    kept = files_of(version.path)
    assert kept.pop("base").startswith("-> ")
    assert {name: found[f"model/{name}"] for name in kept} == kept
    assert found["model/base"] == "-> ../base"
    base = shelf.line.version(version.base)
    assert (tmp_path / "out" / "model" / "base" / "config.json").read_bytes() == (
        base.path / "config.json"
    ).read_bytes()
    digest = "sha256:" + hashlib.sha256(found["version.json"]).hexdigest()
    assert digest == version.digest
    assert [name for name in found if name.startswith("receipts/")] == [
        f"receipts/{version.added.receipts[0].removeprefix('sha256:')}.json"
    ]


def test_archives_are_the_same_bytes_whenever_and_wherever(shelf, tmp_path):
    version = adapter_of(shelf)
    export(shelf.line, version, tmp_path / "a" / "out.tar")
    before = os.umask(0o077)
    try:
        export(shelf.line, version, tmp_path / "b" / "out.tar")
    finally:
        os.umask(before)
    first, second = (tmp_path / name / "out.tar" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        archive.extractall(tmp_path / "c", filter="data")
    export(shelf.line, version, tmp_path / "out")
    assert files_of(tmp_path / "c" / "out") == files_of(tmp_path / "out")
    assert {item.name for item in (tmp_path / "a").iterdir()} == {"out.tar"}


def test_an_export_leads_back_to_its_line(shelf, tmp_path):
    version = adapter_of(shelf)
    (tmp_path / "there").mkdir()
    other = Shelf(tmp_path / "there")
    out = export(shelf.line, version, tmp_path / "out")
    tuned = out / "model"
    base = Artefact(
        directory=out / "base", name="base", kind="model", manifest=manifest_of(out / "base"),
        tensors=tensors_of("base"),
    )  # fmt: skip
    made = Artefact(
        directory=tuned, name="out", kind="adapter", manifest=manifest_of(tuned),
        tensors=version.tensors, base=base,
    )  # fmt: skip
    there = keep(other.line, made)
    assert there.digest == version.digest
    assert there.source["version"] == version.digest
    assert there.source["lineage"].startswith("tuned (")
    way = lineage_of(there, other.line.versions())
    assert [item.name for item in way.versions] == ["out", "base"] and way.whole
    pruned = keep(shelf.line, artefact(tmp_path / "small", "small", parent="base"))
    export(shelf.line, pruned, tmp_path / "again")
    (tmp_path / "third").mkdir()
    third = Shelf(tmp_path / "third")
    opened = Artefact(
        directory=tmp_path / "again" / "model", name="again", kind="model",
        manifest=manifest_of(tmp_path / "again" / "model"), tensors=tensors_of("small"),
        parent=tensors_of("base"),
    )  # fmt: skip
    way = lineage_of(keep(third.line, opened), third.line.versions())
    assert not way.whole
    assert re.search(r"exported from line line, which says: small \(.*\) ← base \(", way.text)
    (tuned / "config.json").write_text("{}")
    changed = dataclasses.replace(made, manifest=manifest_of(tuned))
    with pytest.raises(ArtefactError, match="is not what line line exported"):
        keep(other.line, changed)


def test_what_is_there_is_not_replaced_unless_asked(shelf, tmp_path):
    version = adapter_of(shelf)
    for out in (tmp_path / "out", tmp_path / "out.tar"):
        export(shelf.line, version, out)
        with pytest.raises(OutputExistsError):
            export(shelf.line, version, out)
        export(shelf.line, version, out, overwrite=True)
    (tmp_path / "out" / "model" / "base").unlink()
    (tmp_path / "out" / "model" / "base").symlink_to("../receipts")
    with pytest.raises(OutputExistsError, match="model/base"):
        export(shelf.line, version, tmp_path / "out", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(OutputExistsError):
        export(shelf.line, version, tmp_path / "mine", overwrite=True)
    with pytest.raises(InputError, match="is in the line"):
        export(shelf.line, version, shelf.line.path / "out")


def test_a_changed_version_is_not_exported(shelf, tmp_path):
    version = shelf.add("one")
    (version.path / "config.json").write_text("{}")
    for out in (tmp_path / "out", tmp_path / "out.tar"):
        with pytest.raises(ArtefactError, match=r"config.json"):
            export(shelf.line, version, out)
        assert not out.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[promote]\nmax_los = '1%'", "did you mean 'max_loss'"),
        ("[promotion]\nmax_loss = '1%'", "did you mean 'promote'"),
        ("[promote.canary]\nrequest = 3", "did you mean 'requests'"),
        ("[promote]\nmax_loss = -1", "max_loss"),
        ("[promote]\nproof = 1", "proof"),
        ("[promote]\nverdict_age_days = 0", "verdict_age_days"),
        ("[promote]\nverdict_age_days = inf", "verdict_age_days"),
        ("[promote]\ndata = 'sha256:…'", "64 hex digits"),
        ("[promote]\nflips = '2 points'", "share"),
        ("[promote]\ncanary = { requests = 0 }", "requests"),
        ("[promote]\nshadow = { at_least = 5, disagree = '3 apples' }", "disagree"),
        ("[promote]\nsigners = { at_least = 1, keys = ['me'] }", "release key"),
        ("[promote]\nsigners = { at_least = -1 }", "at_least"),
        ("[promote]\nslices = { column = 'm' }", "lacks max_loss"),
        ("promote = 3", "mapping"),
        ("[promote", "no TOML"),
    ],
)
def test_a_policy_with_mistakes_is_refused_with_what_is_meant(tmp_path, text, said):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(SsmithError, match=r"policy\.toml") as caught:
        read_policy(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_policy_is_printed_as_it_is_read(tmp_path):
    plain = {
        "max_loss": "0.5 points", "flips": "2%", "canary": {"requests": 200}, "proof": True,
        "slices": {"column": "machine", "max_loss": "3%"}, "verdict_age_days": 7,
        "shadow": {"at_least": 500, "disagree": "3%"}, "data": "sha256:" + 64 * "a",
    }  # fmt: skip
    for policy in (
        policy_from({"promote": plain}, where="x"),
        policy_from({}, where="x"),
        relaxed(),
    ):
        (tmp_path / "policy.toml").write_text(policy.as_toml())
        assert read_policy(tmp_path / "policy.toml") == policy


def test_what_a_killed_archive_leaves_is_swept_by_the_next_one(shelf, tmp_path, monkeypatch):
    version, out = adapter_of(shelf), tmp_path / "shared" / "out.tar"
    child = os.fork()
    if child == 0:
        # Tests clean up after themselves in the parent alone.
        monkeypatch.setattr(tarfile.TarFile, "addfile", lambda *_: os.kill(os.getpid(), 9))
        export(shelf.line, version, out)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert [item.name.startswith(".out.tar.") for item in out.parent.iterdir()] == [True]
    export(shelf.line, version, out)
    assert [item.name for item in out.parent.iterdir()] == ["out.tar"]
