r"""Turn the DART triples-to-text corpus into tuning data: python dart.py dev.json dart.jsonl.

DART (https://github.com/Yale-LILY/dart, MIT) holds sets of triples, each with one or more
sentences that say the same. One line is written for each sentence, with all sentences of its
triples as references: ``{"prompt": "a | IS | b\n...", "completion": ..., "references": [...]}``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def prompt_of(triples: list[list[str]]) -> str:
    """Return triples as one line each, with an arrow behind the last."""
    return "\n".join(" | ".join(part.strip() for part in triple) for triple in triples) + "\n=> "


def lines_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an entry's sentences as lines of tuning data; none if it has none."""
    texts = [item["text"].strip() for item in entry["annotations"]]
    texts = list(dict.fromkeys(text for text in texts if text))
    prompt = prompt_of(entry["tripleset"])
    return [{"prompt": prompt, "completion": text, "references": texts} for text in texts]


def convert(source: Path, target: Path) -> tuple[int, int]:
    """Write the tuning data of a corpus file.

    Args:
        source: the corpus, JSON.
        target: the ``.jsonl`` file to write.

    Returns:
        Sets of triples read, lines written.
    """
    entries = json.loads(source.read_text(encoding="utf-8"))
    lines = [line for entry in entries for line in lines_of(entry)]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    target.write_text(text, encoding="utf-8")
    return len(entries), len(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    read, written = convert(given.source, given.target)
    print(f"{read} sets of triples, {written} lines")
