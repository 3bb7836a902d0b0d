"""Keys that sign entries: Ed25519, each named by itself, so that a log is checked by itself."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError, InputError, OutputExistsError
from ssmith.core.optional import require
from ssmith.release.disk import canonical, in_our_words, remove, write_new
from ssmith.release.log import Entry

_PREFIX = "ed25519:"
_SHORT = 20
# What else a key may sign begins otherwise.
_PURPOSE = b"ssmith release entry\n"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Key:
    """A private key that was read; its id is its public half, as text."""

    id: str
    private: Any

    def sign(self, entry: Entry) -> dict[str, str]:
        """Return the signature under an entry."""
        signature = self.private.sign(_PURPOSE + canonical(entry.content()))
        return {"key": self.id, "signature": _text(signature)}


def make_key(path: Path) -> str:
    """Make a key: the private half, which nobody else may read, and beside it the public one.

    Where something ended between the two halves, the missing one is made of the private one.

    Args:
        path: of the private half; the other has ``.pub`` at its end.

    Returns:
        The id of the key.

    Raises:
        OutputExistsError: if one of the files is there.
        ArtefactError: if the disk refuses.
        MissingExtraError: if the package that makes keys is not installed.
    """
    public = path.with_name(path.name + ".pub")
    if path.is_file() and not os.path.lexists(public):
        called = read_key(path).id
        with in_our_words(public, after="the private half is whole"):
            write_new(public, f"{called}\n".encode(), 0o666)
        return called
    private = _ed25519().Ed25519PrivateKey.generate()
    forms = _forms()
    content = private.private_bytes(
        forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()
    )
    called = _id_of(private.public_key())
    for place in (path, public):
        if os.path.lexists(place):
            raise OutputExistsError(
                f"{place} is there already", next_step="choose another name; no key was made"
            )
    with in_our_words(path, after="no key was made"):
        try:
            write_new(path, content, 0o600)
            write_new(public, f"{called}\n".encode(), 0o666)
        except BaseException:
            remove(path)
            raise
    return called


def read_key(path: Path) -> Key:
    """Read a private key.

    Raises `ArtefactError` if it cannot be read, is no such key, or others may read it as well, and
    `MissingExtraError` if the package that signs is not installed.
    """
    kind = _ed25519().Ed25519PrivateKey
    unknown: Any = require("cryptography.exceptions", extra="sign", purpose="signing")
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise ArtefactError(
            f"cannot read the key {path}: {error.strerror or error}",
            next_step="sign as its owner, or with a key of your own",
        ) from error
    if mode & _OTHERS:
        raise ArtefactError(
            f"the key {path} can be read by others (mode {stat.S_IMODE(mode):03o})",
            allowed="a key that only its owner can read",
            next_step=f"chmod 600 {path}, or make a new one if others may have read it",
        )
    loader: Any = require(
        "cryptography.hazmat.primitives.serialization", extra="sign", purpose="signing"
    )
    try:
        private = loader.load_pem_private_key(content, password=None)
        if not isinstance(private, kind):
            # Other kinds have bytes of their own that would pass for a name.
            raise TypeError(f"a key of another kind: {type(private).__name__}")
        return Key(_id_of(private.public_key()), private)
    except (ValueError, TypeError, unknown.UnsupportedAlgorithm) as error:
        raise ArtefactError(
            f"{path} is no private Ed25519 key without a passphrase",
            next_step="make one: `ssmith release key --out FILE`",
        ) from error


def check_id(text: str) -> None:
    """Raise `InputError` unless a text is the id of a key."""
    try:
        whole = text.startswith(_PREFIX) and len(_bytes(text.removeprefix(_PREFIX))) == 32
    except (ValueError, binascii.Error):
        whole = False
    if not whole:
        raise InputError(
            f"the key {text!r}",
            allowed=f"{_PREFIX} and 43 letters, as in the file .pub beside the private key",
            next_step="make one: `ssmith release key --out FILE`",
        )


def signed_by(entry: Entry) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return ids of the keys whose signatures under an entry hold, and what is wrong with others.

    Raises `MissingExtraError` if there is one, and the package that checks is not installed.
    """
    good, wrong = set(), []
    for item in entry.signatures:
        key = item.get("key", "") if isinstance(item, Mapping) else ""
        if _holds(entry, item):
            good.add(key)
        else:
            wrong.append(f"the signature of {short_key(key)} does not hold")
    if entry.signed != bool(entry.signatures) or (entry.signed and entry.actor not in good):
        wrong.append("it says that it is signed by somebody who did not sign it")
    return frozenset(good), tuple(wrong)


def agreed(entries: Iterable[Entry], keys: Iterable[str]) -> frozenset[str]:
    """Return which of some keys, of all if none are given, signed one of some entries."""
    found: set[str] = set()
    for entry in entries:
        found |= signed_by(entry)[0]
    counted = frozenset(keys)
    return frozenset(found & counted if counted else found)


def short_key(text: str) -> str:
    """Return the beginning of a key's id, for people; other names of people as they are."""
    return f"{text[:_SHORT]}…" if text.startswith(_PREFIX) else text


def _holds(entry: Entry, signature: Any) -> bool:
    public = _ed25519().Ed25519PublicKey
    try:
        key = public.from_public_bytes(_bytes(signature["key"].removeprefix(_PREFIX)))
        key.verify(_bytes(signature["signature"]), _PURPOSE + canonical(entry.content()))
    except Exception as error:
        # Told by name: the class of a signature that does not hold is in a package of an extra.
        if isinstance(error, KeyError | TypeError | ValueError | AttributeError):
            return False
        if type(error).__name__ == "InvalidSignature":
            return False
        raise
    return True


def _ed25519() -> Any:
    return require(
        "cryptography.hazmat.primitives.asymmetric.ed25519", extra="sign", purpose="signing"
    )


def _forms() -> Any:
    return require("cryptography.hazmat.primitives.serialization", extra="sign", purpose="signing")


def _id_of(public: Any) -> str:
    return _PREFIX + _text(public.public_bytes_raw())


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode("ascii").rstrip("=")


def _bytes(text: str) -> bytes:
    """Return what a text means; raises `ValueError` where it is not the one way to write that."""
    content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(content) != text:
        # The last letter has bits to spare, by which one key could pass for several.
        raise ValueError("another way to write the same bytes")
    return content
