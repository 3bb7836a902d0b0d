"""Signatures: who agreed, how many, and that nobody can agree for another."""

import base64
import errno
import json
import os

import pytest

from helpers.lines import Shelf, relaxed
from ssmith.core.errors import ArtefactError, InputError, MissingExtraError, OutputExistsError
from ssmith.release import disk, log
from ssmith.release.consent import change_policy, sign
from ssmith.release.keys import check_id, make_key, read_key, signed_by
from ssmith.release.line import Line
from ssmith.release.promotion import promote, rollback
from ssmith.release.verify import verify


@pytest.fixture
def keys(tmp_path):
    for name in ("alice", "bob", "carol", "mallory"):
        make_key(tmp_path / f"{name}.key")
    return {
        name: read_key(tmp_path / f"{name}.key") for name in ("alice", "bob", "carol", "mallory")
    }


@pytest.fixture
def shelf(tmp_path, keys):
    named = [keys[name].id for name in ("alice", "bob", "carol")]
    return Shelf(tmp_path, relaxed(signers={"at_least": 2, "keys": named}))


def refused(line, version, **more):
    outcome = promote(line, version, **more)
    assert [rule.name for rule in outcome.rules if not rule.passed] == ["signers"]
    return outcome


def test_two_of_three_must_agree(shelf, keys):
    line, version = shelf.line, shelf.add("one")
    refused(line, version)
    refused(line, version, key=keys["alice"])
    sign(line, version, keys["bob"])
    refused(line, version)
    # Somebody who is not named does not count, and the same one does not count twice.
    refused(line, version, key=keys["mallory"])
    refused(line, version, key=keys["bob"])
    with pytest.raises(InputError, match="has signed this already"):
        sign(line, version, keys["bob"])
    with pytest.raises(InputError, match="none of those that the policy names"):
        sign(line, version, keys["mallory"])
    outcome = promote(line, version, key=keys["alice"])
    assert outcome.promoted
    assert outcome.entry.signed
    assert outcome.entry.actor == keys["alice"].id
    assert verify(line).passed


def test_no_reason_stands_for_a_signature(tmp_path, keys):
    policy = relaxed(signers={"at_least": 1, "keys": [keys["alice"].id]}, override=True)
    shelf = Shelf(tmp_path, policy)
    version = shelf.add("one")
    refused(shelf.line, version, override=True, reason="now")
    assert shelf.line.live is None


def test_signatures_lapse_when_something_else_goes_live(shelf, keys):
    line = shelf.line
    one, two = shelf.add("one"), shelf.add("two")
    for version in (two, one):
        for name in ("alice", "bob"):
            sign(line, version, keys[name])
    assert promote(line, one).promoted
    refused(line, two)
    sign(line, two, keys["carol"])
    assert promote(line, two, key=keys["bob"]).promoted
    # Going back to what was agreed on once needs no new agreement: it may be urgent.
    assert rollback(line).version == one.digest
    assert verify(line).passed


def test_a_policy_protects_its_signatures(shelf, keys):
    line, weaker = shelf.line, relaxed()
    with pytest.raises(InputError, match="needs signatures of 2 keys, and has 0"):
        change_policy(line, weaker)
    with pytest.raises(InputError, match="has 1"):
        change_policy(line, weaker, key=keys["alice"])
    sign(line, weaker, keys["bob"])
    # Agreed to one policy, not to another.
    with pytest.raises(InputError, match="has 1"):
        change_policy(line, relaxed(flips="2%"), key=keys["alice"])
    change_policy(line, weaker, key=keys["alice"])
    assert line.policy == weaker
    assert verify(line).passed


def test_any_key_counts_where_none_is_named(tmp_path, keys):
    shelf = Shelf(tmp_path, relaxed(signers={"at_least": 2}))
    version = shelf.add("one")
    sign(shelf.line, version, keys["mallory"])
    refused(shelf.line, version, key=keys["mallory"])
    assert promote(shelf.line, version, key=keys["bob"]).promoted


def forge(line, change, index=-1):
    """Change an entry and seal it anew, which needs no key."""
    lines = (line.path / "log.jsonl").read_bytes().splitlines()
    content = json.loads(lines[index])
    change(content)
    names = ("receipts", "signatures")
    entry = log.Entry(**{**content, **{name: tuple(content[name]) for name in names}})
    lines[index] = entry.line()
    (line.path / "log.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return verify(Line(path=line.path))


def test_forged_entries_are_named(shelf, keys):
    line = shelf.line
    one, two = shelf.add("one"), shelf.add("two")
    sign(line, one, keys["bob"])
    promote(line, one, key=keys["alice"])
    held = (line.path / "log.jsonl").read_bytes()
    link = line.path / "live"

    def again(change):
        (line.path / "log.jsonl").write_bytes(held)
        return {fault.text for fault in forge(line, change).faults}

    assert any("does not hold" in text for text in again(lambda it: it.update(reason="other")))
    texts = again(lambda it: it.update(signatures=[], signed=False, actor="root@here"))
    assert any("needs signatures of 2 keys" in text for text in texts)
    texts = again(lambda it: it.update(actor=keys["carol"].id))
    assert any("did not sign it" in text or "does not hold" in text for text in texts)
    texts = again(lambda it: it["signatures"][0].update(key=keys["carol"].id))
    assert any("does not hold" in text for text in texts)
    texts = again(lambda it: it["signatures"].append({"key": "1"}))
    assert any("does not hold" in text for text in texts)
    (line.path / "log.jsonl").write_bytes(held)
    assert link.readlink().name == one.path.name
    # What nobody agreed to, written past us: the chain fits, the signatures are missing.
    loose = Line(path=line.path, clock=shelf.clock)
    with loose.change("promote") as writing:
        writing.staged.point("live", f"versions/{two.path.name}")
        writing.record("promote", version=two.digest, details={"rules": []})
    faults = verify(Line(path=line.path)).faults
    assert any("needs signatures of 2 keys, and has those of nobody" in it.text for it in faults)


def test_one_key_is_written_in_one_way(shelf, keys):
    # The last of 43 letters has two bits to spare.
    text = keys["alice"].id
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + letters[letters.index(text[-1]) ^ 1]
    raw = [base64.urlsafe_b64decode(item.removeprefix("ed25519:") + "=") for item in (text, other)]
    assert raw[0] == raw[1]
    check_id(text)
    with pytest.raises(InputError, match="the key"):
        check_id(other)
    version = shelf.add("one")
    entry = sign(shelf.line, version, keys["alice"])
    changed = {**entry.signatures[0], "key": other}
    assert signed_by(log.Entry(**{**vars(entry), "signatures": (changed,), "actor": other}))[1]


def test_keys_are_for_their_owner(tmp_path):
    path = tmp_path / "own.key"
    called = make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "own.key.pub").read_text().strip() == called
    assert read_key(path).id == called
    with pytest.raises(OutputExistsError, match="is there already"):
        make_key(path)
    before = path.read_bytes()
    (tmp_path / "own.key.pub").unlink()
    assert make_key(path) == called
    assert (tmp_path / "own.key.pub").read_text().strip() == called
    assert path.read_bytes() == before
    path.chmod(0o640)
    with pytest.raises(ArtefactError, match="can be read by others") as caught:
        read_key(path)
    assert "chmod 600" in str(caught.value)
    (tmp_path / "pem").write_text("no key")
    (tmp_path / "pem").chmod(0o600)
    with pytest.raises(ArtefactError, match="no private Ed25519 key"):
        read_key(tmp_path / "pem")
    with pytest.raises(ArtefactError, match="cannot read the key"):
        read_key(tmp_path / "nowhere")


def test_a_key_without_permission(tmp_path, monkeypatch):
    path = tmp_path / "own.key"
    make_key(path)

    def deny(*_):
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", deny)
    with pytest.raises(ArtefactError, match="Permission denied"):
        read_key(path)


def test_without_the_extra_unsigned_lines_work(tmp_path, monkeypatch, keys):
    signed = Shelf(tmp_path / "signed")
    sign(signed.line, signed.add("one"), keys["bob"])
    monkeypatch.setitem(
        __import__("sys").modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None
    )
    plain = Shelf(tmp_path / "plain")
    promote(plain.line, plain.add("one"))
    assert verify(plain.line).passed
    with pytest.raises(MissingExtraError, match=r"ssmith\[sign\]"):
        verify(signed.line)
    with pytest.raises(MissingExtraError, match=r"ssmith\[sign\]"):
        make_key(tmp_path / "new.key")


def test_a_disk_that_is_full_behind_the_private_half_leaves_no_half(tmp_path, monkeypatch):
    real = disk.write_all

    def full(descriptor, content):
        if not content.startswith(b"-----"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, content)

    monkeypatch.setattr(disk, "write_all", full)
    with pytest.raises(ArtefactError, match="no key was made"):
        make_key(tmp_path / "own.key")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert make_key(tmp_path / "own.key")
