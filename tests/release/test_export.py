"""What leaves a line: the same bytes every time, with what it rests on; it opens outside."""

import hashlib
import os
import tarfile

import pytest

from helpers.lines import Shelf, artefact, files_of, paper, receipt, relaxed
from ssmith.core.errors import ArtefactError, InputError, OutputExistsError, SsmithError
from ssmith.release.adding import keep
from ssmith.release.export import export
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


def test_what_is_there_is_not_replaced_unless_asked(shelf, tmp_path):
    version = shelf.add("one")
    for out in (tmp_path / "out", tmp_path / "out.tar"):
        export(shelf.line, version, out)
        with pytest.raises(OutputExistsError):
            export(shelf.line, version, out)
        export(shelf.line, version, out, overwrite=True)
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
