"""Lines without real models: tiny directories of bytes, and a clock of our own."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

from helpers.receipts import receipt_of
from ssmith.release.adding import Artefact, keep
from ssmith.release.begin import init
from ssmith.release.evidence import read_paper
from ssmith.release.manifest import manifest_of
from ssmith.release.moments import now, written
from ssmith.release.policy import policy_from
from ssmith.release.version import kept_in

START = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Ticking:
    """A clock that goes on by a minute whenever somebody looks."""

    def __init__(self, start=START):
        self.now = start

    def __call__(self):
        self.now += timedelta(minutes=1)
        return self.now


def artefact(place, text, *, parent=None, base=None, size=2000):
    """A directory that passes for a model: its tensors are told by a text."""
    place.mkdir(parents=True, exist_ok=True)
    numbers = hashlib.sha256(text.encode()).digest()
    (place / "model.safetensors").write_bytes((numbers * (size // 32 + 1))[:size])
    (place / "config.json").write_text(json.dumps({"text": text}))
    (place / "deep").mkdir(exist_ok=True)
    (place / "deep" / "tokenizer.json").write_text("[]")
    return Artefact(
        directory=place,
        name=text,
        kind="model" if base is None else "adapter",
        manifest=manifest_of(place),
        tensors=tensors_of(text),
        parent=None if parent is None else tensors_of(parent),
        base=base,
    )


def tensors_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def receipt(of, *, before="dense", loss=0.0, upper=None, accepted=True, parity=True, **more):
    """What a pilot would say of a model: accuracy 0.9 before, a loss, and its upper bound."""
    quality = {
        "metric": "accuracy",
        "higher_is_better": True,
        "count": 1000,
        "share": True,
        "before": {"value": 0.9},
        "after": {"value": 0.9 - loss},
        "loss": {
            "value": loss,
            "lower_bound": loss,
            "upper_bound": loss if upper is None else upper,
        },
    }
    return receipt_of(
        **{
            "model": {"digest_before": tensors_of(before), "digest_after": tensors_of(of)},
            "data": {"name": "toy", "sha256": 64 * "d"},
            "quality": quality,
            "parity": {} if parity is None else {"passed": parity},
            "verdict": {"accepted": accepted, "headline": "half of it removed"},
            "time": written(START),
            **more,
        }
    ).as_dict()


def kept(line, digest):
    """What a line keeps for an entry."""
    return kept_in(line.path, digest)


def paper(place, content):
    """A receipt as a file."""
    place.write_text(json.dumps(content))
    return read_paper(place)


def relaxed(**settings):
    """A policy that asks for what is given alone."""
    plain = {"max_loss": "any", "parity": False, **settings}
    return policy_from({"promote": plain}, where="policy")


TICKING = object()


class Shelf:
    """A line with versions that pass for models, by their texts."""

    def __init__(self, place, policy=None, clock=TICKING):
        self.place = place
        self.clock = Ticking() if clock is TICKING else clock or now
        self.line = init(place / "line", policy or relaxed(), clock=self.clock)

    def add(self, text, said=None, **more):
        papers = [] if said is None else [paper(self.place / f"{text}.json", said)]
        found = artefact(self.place / "shelf" / text, text, **more)
        return keep(self.line, found, papers=papers, reason=f"add {text}")

    def live_link(self):
        return (self.line.path / "live").readlink().name


def files_of(place):
    """Every path below a place with what it is: bytes, a link's target, or a directory."""
    found = {}
    for item in sorted(place.rglob("*")):
        name = item.relative_to(place).as_posix()
        if item.is_symlink():
            found[name] = f"-> {item.readlink()}"
        else:
            found[name] = item.read_bytes() if item.is_file() else None
    return found
