"""Parts of answers on disk: what was damaged is refused, with the file's name."""

import pyarrow
import pytest

from ssmith.core.errors import ArtefactError
from ssmith.serving.parts import KeptParts, PartFacts


def test_a_damaged_part_is_refused_by_name(tmp_path):
    kept = KeptParts(tmp_path / "out.csv")
    kept.open({"seed": 0}, overwrite=False)
    kept.add(pyarrow.table({"row": ["one", "two"]}), PartFacts(rows=2))
    (path,) = kept.place.glob("*.arrow")
    content = path.read_bytes()
    offsets = (0).to_bytes(4, "little") + (3).to_bytes(4, "little") + (6).to_bytes(4, "little")
    assert content.count(offsets) == 1
    wrong = (0).to_bytes(4, "little") + (-9).to_bytes(4, "little", signed=True)
    path.write_bytes(content.replace(offsets, wrong + (6).to_bytes(4, "little")))
    assert kept.open({"seed": 0}, overwrite=False).rows == 2
    with pytest.raises(ArtefactError, match=r"cannot read .*000000\.arrow"):
        kept.finish(None)
    assert not kept.out.exists()
