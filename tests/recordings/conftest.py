import pytest

from recordings import plant
from ssmith.core.preparation import PrepareConfig


@pytest.fixture
def config():
    return PrepareConfig(
        task="classification", sequence="machine", time="ts", label=("state",), group="plant",
        window=12, stride=6,
    )  # fmt: skip


@pytest.fixture
def table(tmp_path):
    return plant.write(tmp_path / "plant.csv", plant.rows())
