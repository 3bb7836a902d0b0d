"""A line mirrored in MLflow's registry; the log stays the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ssmith.core.errors import EndpointError, SsmithError
from ssmith.core.optional import require
from ssmith.core.receipt import Receipt
from ssmith.core.settings import to_mapping
from ssmith.release.line import Line
from ssmith.release.version import Version, short

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST, INDEX, HEAD = "ssmith.digest", "ssmith.log_index", "ssmith.log_head"
_RUN_NAME = "ssmith {}"
_MOST_TAG = 5000


@dataclass(frozen=True, kw_only=True)
class Mirrored:
    """What a mirror holds now: numbers of registered versions by digest, ``made`` of them just now.

    ``champion`` is the digest of the version that is live, ``challenger`` of the newest, where it
    is not live.
    """

    uri: str
    name: str
    versions: Mapping[str, str]
    made: tuple[str, ...]
    champion: str | None
    challenger: str | None


def mirror(line: Line, uri: str, *, name: str | None = None) -> Mirrored:
    """Bring a registry to what a line says.

    Every version becomes a registered version of one model, with a run that holds its receipts'
    metrics and files; ``champion`` names the live one, ``challenger`` the newest if it is not
    live. What is there already stays, so that a mirror that failed can be repeated.

    Args:
        line: the line.
        uri: of a tracking server, such as ``http://127.0.0.1:5000``.
        name: of the registered model; the line's own if None.

    Returns:
        What the registry holds now.

    Raises:
        MissingExtraError: if mlflow is not installed.
        EndpointError: if the server does not answer or refuses; what was mirrored stays.
    """
    tracking = require("mlflow.tracking", extra="mlflow", purpose="a mirror in MLflow")
    name = name or line.name
    with _in_our_words(uri):
        client = tracking.MlflowClient(tracking_uri=uri, registry_uri=uri)
        if not client.search_registered_models(filter_string=f"name = '{_quoted(name)}'"):
            client.create_registered_model(name, description="mirrored by ssmith")
        found = _registered(client, name)
        made = []
        for version in line.versions():
            if version.digest not in found:
                found[version.digest] = _register(client, name, version)
                made.append(version.digest)
        live, newest = line.live, line.versions()[-1:] or (None,)
        challenger = newest[0] if newest[0] != live else None
        _alias(client, name, CHAMPION, None if live is None else found[live.digest])
        _alias(client, name, CHALLENGER, None if challenger is None else found[challenger.digest])
        client.set_registered_model_tag(name, HEAD, line.head)
    return Mirrored(
        uri=uri,
        name=name,
        versions=found,
        made=tuple(made),
        champion=None if live is None else live.digest,
        challenger=None if challenger is None else challenger.digest,
    )


def _registered(client: Any, name: str) -> dict[str, str]:
    """Return by digest the versions that are whole."""
    versions = client.search_model_versions(f"name = '{_quoted(name)}'")
    return {item.tags[DIGEST]: str(item.version) for item in versions if DIGEST in item.tags}


def _register(client: Any, name: str, version: Version) -> str:
    """Register a version; the tag with its digest comes last, so that a half one is made anew."""
    experiment = client.get_experiment_by_name(name)
    known = client.create_experiment(name) if experiment is None else experiment.experiment_id
    run = client.create_run(known, run_name=_RUN_NAME.format(short(version.digest)))
    run_id = run.info.run_id
    for key, value in _facts(version).items():
        client.set_tag(run_id, key, value[:_MOST_TAG])
    receipt = version.receipt
    if receipt is not None:
        for key, number in metrics_of(receipt).items():
            client.log_metric(run_id, key, number)
    for entry in version.evidence:
        for digest in entry.receipts:
            text = version.kept(digest).to_json()
            client.log_text(run_id, text, f"receipts/{short(digest)}.json")
    client.set_terminated(run_id)
    # A registry takes no path of ours as a source; where the version lies is a tag.
    made = client.create_model_version(name, f"runs:/{run_id}/receipts", run_id=run_id)
    for key, value in _facts(version).items():
        client.set_model_version_tag(name, made.version, key, value[:_MOST_TAG])
    client.set_model_version_tag(name, made.version, DIGEST, version.digest)
    return str(made.version)


def _facts(version: Version) -> dict[str, str]:
    return {
        INDEX: str(version.added.index),
        "ssmith.path": str(version.path.resolve()),
        "ssmith.time": version.added.time,
        "ssmith.actor": version.added.actor,
        "ssmith.reason": version.added.reason,
        "ssmith.tensors": version.tensors,
    }


def metrics_of(receipt: Receipt) -> dict[str, float]:
    """Return the numbers of a comparison that a registry compares versions by, by name."""
    quality = receipt.compared
    found = {
        f"quality_{key}": None if side is None else side.value
        for key, side in (("before", quality.before), ("after", quality.after))
    }
    found |= {} if quality.loss is None else {
        f"loss_{key}": value for key, value in to_mapping(quality.loss).items()
    }  # fmt: skip
    found |= {f"removed_{unit}": facts.fraction for unit, facts in receipt.removed.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def _alias(client: Any, name: str, alias: str, number: str | None) -> None:
    if number is not None:
        client.set_registered_model_alias(name, alias, number)
    elif alias in client.get_registered_model(name).aliases:
        client.delete_registered_model_alias(name, alias)


def _quoted(name: str) -> str:
    return name.replace("'", "\\'")


@contextmanager
def _in_our_words(uri: str) -> Iterator[None]:
    """Say in one line what a tracking server, or the way to it, refuses."""
    try:
        yield
    except SsmithError:
        raise
    except Exception as error:
        # mlflow raises its own kinds, requests' and urllib's.
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EndpointError(
            f"the registry at {uri} refuses: {said[:200]}",
            next_step="see that it runs, and mirror again: what is there already stays",
        ) from error
