"""The mirror against MLflow's own tracking server, where `make mlflow` set one up."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from helpers.lines import Shelf, receipt
from helpers.pages import ROOT
from helpers.receipts import receipt_of
from ssmith.release.mirror import metrics_of
from ssmith.release.promotion import promote

BIN = Path(os.environ.get("SSMITH_MLFLOW", ROOT / ".venv" / "mlflow")) / "bin"
needs_server = pytest.mark.skipif(
    not (BIN / "mlflow").exists(), reason="`make mlflow` sets up the server and its client"
)

# Runs in the environment of the server, which has a client as well.
SCRIPT = """
import json, sys
from dataclasses import asdict
sys.path += json.loads(sys.argv[1])
from ssmith.release.line import Line
from ssmith.release.mirror import mirror
from mlflow.tracking import MlflowClient
uri, first, after = sys.argv[2], sys.argv[3], sys.argv[4]
def seen(found):
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    model = client.get_registered_model(found.name)
    items = client.search_model_versions(f"name = '{found.name}'")
    return {
        "mirrored": asdict(found), "aliases": dict(model.aliases), "tags": dict(model.tags),
        "versions": {
            str(item.version): {
                "tags": dict(item.tags),
                "metrics": client.get_run(item.run_id).data.metrics,
                "files": [f.path for f in client.list_artifacts(item.run_id, "receipts")],
            } for item in items
        },
    }
line = Line.open(first)
real = MlflowClient.set_model_version_tag
def fails(self, name, version, key, value):
    if key == "ssmith.digest":
        raise ConnectionError("the network is gone")
    return real(self, name, version, key, value)
MlflowClient.set_model_version_tag = fails
try:
    mirror(line, uri)
    broken = None
except Exception as error:
    broken = f"{type(error).__name__}: {error}"
MlflowClient.set_model_version_tag = real
rounds = [seen(mirror(line, uri)), seen(mirror(line, uri)), seen(mirror(Line.open(after), uri))]
print("FOUND" + json.dumps({"broken": broken, "rounds": rounds, "head": line.head}))
"""


@pytest.fixture
def server(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = f"sqlite:///{tmp_path}/store.db"
    command = [
        BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", 1,
        "--backend-store-uri", store, "--artifacts-destination", tmp_path / "files",
    ]  # fmt: skip
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urlopen(f"{uri}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.5)
        yield uri
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def lines(tmp_path):
    """The same line, before and after its newest version goes live."""
    shelf = Shelf(tmp_path)
    versions = [shelf.add(text, receipt(text, loss=0.001)) for text in ("first", "second")]
    promote(shelf.line, versions[0], reason="the first")
    before = tmp_path / "before"
    shutil.copytree(shelf.line.path, before, symlinks=True)
    promote(shelf.line, versions[1], reason="the second")
    return str(before), str(shelf.line.path)


@needs_server
def test_a_line_is_mirrored_and_may_be_mirrored_again(tmp_path, server, lines):
    first, after = lines
    paths = json.dumps([str(ROOT / "src"), *(item for item in sys.path if "site-packages" in item)])
    ended = subprocess.run(
        [BIN / "python", "-c", SCRIPT, paths, server, first, after],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.split("FOUND")[1])
    assert found["broken"].startswith("EndpointError")
    assert "mirror again" in found["broken"]
    one, again, promoted = found["rounds"]
    numbers = one["mirrored"]["versions"]
    assert len(numbers) == 2
    assert len(one["mirrored"]["made"]) == 2
    # The version that was cut short by the broken network is not counted.
    assert again["mirrored"]["made"] == []
    assert again["versions"] == one["versions"]
    live, newest = one["mirrored"]["champion"], one["mirrored"]["challenger"]
    assert {live, newest} == set(numbers)
    assert one["aliases"] == {"champion": numbers[live], "challenger": numbers[newest]} or {
        key: str(value) for key, value in one["aliases"].items()
    } == {"champion": numbers[live], "challenger": numbers[newest]}
    for digest, number in numbers.items():
        assert one["versions"][number]["tags"]["ssmith.digest"] == digest
        assert one["versions"][number]["tags"]["ssmith.log_index"].isdigit()
        assert one["versions"][number]["files"]
        assert one["versions"][number]["metrics"]["loss_value"] == pytest.approx(0.001)
    assert one["tags"]["ssmith.log_head"] == found["head"]
    # Now the newest is live, and nothing challenges it.
    assert promoted["mirrored"]["champion"] == newest
    assert set(promoted["aliases"]) == {"champion"}


def test_the_numbers_of_a_receipt_are_metrics():
    receipt = receipt_of(
        quality={"before": {"value": 0.9}, "after": {"value": 0.8, "low": 0.7}, "loss": {
            "value": 0.1, "upper_bound": None}},
        removed={"state": {"before": 8, "after": 4, "fraction": 0.5}},
    )  # fmt: skip
    assert metrics_of(receipt) == {
        "quality_before": 0.9, "quality_after": 0.8, "loss_value": 0.1, "removed_state": 0.5
    }  # fmt: skip
    assert metrics_of(receipt_of()) == {}
