"""A process that reads what is live over and over; it needs no torch. ``readers.py LINE STOP``."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from ssmith.release.line import Line


def main(root, stop):
    """Read until told to stop; every time it must be one version, whole."""
    seen = {}
    while not stop.exists():
        # Through one handle, as a server that opens a model does.
        place = os.open(root / "live", os.O_RDONLY | os.O_DIRECTORY)
        texts = []
        for name in ("config.json", "model.safetensors"):
            with open(os.open(name, os.O_RDONLY, dir_fd=place), "rb") as stream:  # noqa: PTH123
                texts.append(stream.read())
        os.close(place)
        text = json.loads(texts[0])["text"]
        numbers = hashlib.sha256(text.encode()).digest()
        assert texts[1] == (numbers * 63)[:2000], "half of one and half of another"
        seen[text] = seen.get(text, 0) + 1
        if sum(seen.values()) % 10 == 1:
            # And by the log, which may be ahead of the link by a moment.
            line = Line.open(root)
            assert (line.live.path / "config.json").is_file()
        time.sleep(0.002)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
