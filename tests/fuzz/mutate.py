"""Damage that keeps to the structure of a file, and damage that does not."""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import struct
import zipfile
import zlib

ODD = [
    None, True, False, -1, 0, 1, 3, 17, 10**6, 10**9, 10**18, -(10**9), 0.5, -0.5, 1e300, "", "x",
    "0", "../../x", "\x00", "é", [], {}, [None], [[]], {"x": 1}, [1, "a", None], "a" * 5000,
    [0] * 300,
]  # fmt: skip
NAMES = ["x", "", "split", "label", "text", "prompt", "format", "version", "kind", "name", "sizes"]


def mutated(content: bytes, name: str, draw: random.Random) -> bytes:
    """Return a file's bytes, damaged once or a few times."""
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        content = _once(content, name, draw)
    return content


def _once(content: bytes, name: str, draw: random.Random) -> bytes:
    kind = name.rsplit(".", 1)[-1]
    if draw.random() < 0.25:
        return _bytes(content, draw)
    try:
        if kind == "toml":
            return _settings(content, draw)
        if kind in ("json", "yaml"):
            return json.dumps(_tree(json.loads(content), draw)).encode()
        if kind in ("jsonl", "ts", "csv", "txt", "log"):
            return _lines(content, kind, draw)
        if kind == "safetensors":
            return _safetensors(content, draw)
        if kind == "npz":
            return _npz(content, draw)
        if kind == "npy":
            return _header(content, draw)
        if kind == "gz":
            inner = _once(gzip.decompress(content), name.removesuffix(".gz"), draw)
            return gzip.compress(inner, mtime=0)
    except (ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, struct.error,
            zlib.error, zipfile.BadZipFile):  # fmt: skip
        # Damaged before: only its bytes are left.
        pass
    return _bytes(content, draw)


def _bytes(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return draw.randbytes(20)
    place, size = draw.randrange(len(content)), draw.choice([1, 1, 2, 8, 64])
    how = draw.randrange(6)
    if how == 0:
        return content[:place]
    if how == 1:
        return content[:place] + draw.randbytes(size) + content[place:]
    if how == 2:
        return content[:place] + content[place + size :]
    if how == 3:
        flipped = content[place] ^ (1 << draw.randrange(8))
        return content[:place] + bytes([flipped]) + content[place + 1 :]
    if how == 4:
        return content[:place] + b"\0" * size + content[place + size :]
    return content[:place] + content[max(0, place - size) : place] * 3 + content[place:]


def _tree(tree: object, draw: random.Random) -> object:
    """Return JSON with one of its values, keys or lists changed."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return draw.choice(ODD)
    holder, key = draw.choice(places)
    how = draw.randrange(7)
    if how == 0 or (how == 1 and isinstance(holder, list)):
        del holder[key]
    elif how == 1:
        holder[draw.choice(NAMES)] = holder.pop(key)
    elif how == 2 and isinstance(holder, dict):
        holder[draw.choice(NAMES)] = draw.choice(ODD)
    elif how == 3 and isinstance(holder[key], list) and holder[key]:
        holder[key] = holder[key] * draw.choice([2, 3]) if draw.random() < 0.5 else holder[key][1:]
    elif how == 4:
        other, there = draw.choice(places)
        holder[key] = copy.deepcopy(other[there])
    elif how == 5 and isinstance(holder[key], int | float):
        holder[key] = draw.choice(
            [holder[key] + 1, -holder[key], holder[key] * 1000, holder[key] / 3]
        )
    else:
        holder[key] = copy.deepcopy(draw.choice(ODD))
    return tree


def _places(tree: object) -> list[tuple[object, object]]:
    found: list[tuple[object, object]] = []
    open_ = [tree]
    while open_:
        item = open_.pop()
        keys = (
            item if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        )
        for key in keys:
            found.append((item, key))
            open_.append(item[key])
    return found


def _settings(content: bytes, draw: random.Random) -> bytes:
    """Return TOML with one of its values, names or lines changed."""
    lines = content.decode().split("\n")
    place = draw.randrange(len(lines))
    name, mark, value = lines[place].partition("=")
    how = draw.randrange(5)
    if how == 0:
        del lines[place]
    elif how == 1:
        lines.insert(place, draw.choice(lines))
    elif how == 2 and mark:
        lines[place] = f"{draw.choice(NAMES)} ={value}"
    else:
        said = json.dumps(draw.choice(ODD), ensure_ascii=False)
        lines[place] = f"{name or draw.choice(NAMES)} = {said}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _lines(content: bytes, kind: str, draw: random.Random) -> bytes:
    lines = content.decode().split("\n")
    place = draw.randrange(len(lines))
    how = draw.randrange(6)
    if how == 0:
        del lines[place]
    elif how == 1:
        lines.insert(place, draw.choice(lines))
    elif kind == "jsonl" or (kind == "log" and lines[place].startswith("{")):
        made = _tree(json.loads(lines[place] or "{}"), draw)
        lines[place] = json.dumps(made, ensure_ascii=draw.random() < 0.5)
    else:
        by = "," if kind == "csv" else ":" if draw.random() < 0.3 else ","
        cells = lines[place].split(by)
        cells[draw.randrange(len(cells))] = draw.choice(
            ["", "nan", "-inf", "1e999", "1_0", "x", '"', "9" * 400, " ", "é", "?", ":", ","]
        )
        lines[place] = by.join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _safetensors(content: bytes, draw: random.Random) -> bytes:
    (size,) = struct.unpack("<Q", content[:8])
    if draw.random() < 0.1:
        return struct.pack("<Q", draw.choice([0, 1, size + 1, 10**6, 10**12, 2**63])) + content[8:]
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    how = draw.randrange(4)
    if how == 0 and body:
        place = draw.randrange(len(body))
        body = body[:place] + b"\xff" * 8 + body[place + 8 :]
    elif how == 1:
        name = draw.choice(sorted(header))
        if isinstance(header[name], dict) and "dtype" in header[name]:
            header[name]["dtype"] = draw.choice(["F16", "I64", "BOOL", "F8_E4M3", "F64", "U8"])
    elif how == 2 and "facts" in header.get("__metadata__", {}):
        facts = json.loads(header["__metadata__"]["facts"])
        header["__metadata__"]["facts"] = json.dumps(_tree(facts, draw))
    else:
        header = _tree(header, draw)
    made = json.dumps(header).encode()
    return struct.pack("<Q", len(made)) + made + body


def _npz(content: bytes, draw: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice(sorted(members))
    how = draw.randrange(4)
    if how == 0:
        del members[name]
    elif how == 1:
        members[draw.choice(["lengths.npy", "task.npy", "other.npy"])] = members[name]
    else:
        members[name] = _header(members[name], draw)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return made.getvalue()


def _header(content: bytes, draw: random.Random) -> bytes:
    """Change type or shape in the header of an ``.npy`` file, its length kept."""
    size = struct.unpack("<H", content[8:10])[0]
    header = content[10 : 10 + size].decode("latin-1")
    start = header.find("(") + 1
    shape = header[start : header.find(")")]
    wanted = draw.choice(["", "1", "10**9", "1000000000, 1000000000", "-1", "0", shape + ", 2"])
    how = draw.randrange(3)
    if how == 0:
        header = header.replace(f"({shape})", f"({wanted.replace('10**9', '1000000000')},)")
    elif how == 1:
        for kind in ("<f8", "<f4", "<i8", "<i4", "<u2"):
            header = header.replace(kind, draw.choice(["<i8", "<U3", "|O", "<c8", "|b1", "<f2"]))
    else:
        header = header.replace("descr", draw.choice(["descs", "shape"]))
    header = header.rstrip().ljust(size - 1) + "\n"
    made = header.encode("latin-1")
    return content[:8] + struct.pack("<H", len(made)) + made + content[10 + size :]
