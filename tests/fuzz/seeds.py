"""One sound example of every kind of file that is read, and how it is read."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

import ssmith as sm
from fuzz.kept import kept
from fuzz.seed import Seed
from helpers.models import Kind, make_model
from helpers.texts import CHATML, save_tokenizer
from helpers.tiny_mamba import tiny
from ssmith.artefact import verify
from ssmith.core.details import ValidationLook
from ssmith.core.plan import Plan
from ssmith.core.receipt import Receipt
from ssmith.core.settings import from_mapping, read_settings
from ssmith.data import ByteTokenizer, find_tokenizer, load_data, load_examples, load_text
from ssmith.jobs.train import Recipe
from ssmith.jobs.tuning import TuneConfig
from ssmith.release.begin import init
from ssmith.release.line import Line
from ssmith.report import write_report
from ssmith.tune.training.checkpoint import (
    Checkpoint,
    Facts,
    read_checkpoint,
    write_checkpoint,
)


def seeds(root: Path) -> dict[str, Seed]:
    """Make all examples below a directory."""
    root.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    return {
        **_models(root), **_series(root), **_texts(root), **_settings(root), **_adapters(root),
        **kept(root),
    }  # fmt: skip


def _models(root: Path) -> dict[str, Seed]:
    whole = ("config.json", "ssmith.json", "model.safetensors", "manifest.json",
             "masks.safetensors", "adapter_config.json", "adapter_model.safetensors")  # fmt: skip
    sequence = make_model(Kind("s5"), dtype=torch.float32)
    sm.save(sequence, root / "sequence")
    s4d = make_model(Kind("s4d"), dtype=torch.float32)
    sm.prune_(s4d, sm.plan(s4d, sm.Budget("state", 0.4, method="magnitude-uniform")), mode="mask")
    sm.save(s4d, root / "masked")
    tiny("mamba").save_pretrained(root / "stock")
    tiny("mamba2").save_pretrained(root / "mamba2")
    cut = tiny("mamba", num_hidden_layers=3)
    plan = sm.plan(cut, sm.Budget("channel", 0.4, method="magnitude", targets=("*layers.0*",)))
    sm.prune_(cut, plan)
    sm.save(cut, root / "unequal", extra_files=plan.files())
    tuned = sm.load(root / "stock")
    sm.adapt_(tuned, [sm.adapters.LoRA(targets=("out_proj",), rank=2)])
    sm.save_adapter(tuned, root / "adapter", base=str(root / "stock"))
    _native(root / "native")
    _sharded(root / "stock", root / "shards")
    found = {
        name: Seed(root / name, sm.load, whole)
        for name in ("sequence", "masked", "stock", "mamba2", "unequal", "native", "adapter")
    }
    found["shards"] = Seed(root / "shards", sm.load, ("model.safetensors.index.json",))
    found["verify"] = Seed(root / "unequal", verify, ("manifest.json", "ssmith.json"))
    found["inspect"] = Seed(root / "masked", lambda path: sm.inspect(sm.load(path)), whole)
    found["plan"] = Seed(root / "unequal", Plan.load, ("plan.json", "plan.safetensors"))
    return found


def _adapters(root: Path) -> dict[str, Seed]:
    """Adapters of the kinds whose settings or tensors are unlike those of LoRA."""
    kinds = {
        "core": sm.adapters.by_name("core"),
        "sdt": sm.adapters.by_name("sdt"),
        "offset": sm.adapters.StateOffset(),
        "prompt": sm.adapters.by_name("prompt"),
    }
    found = {}
    for name, method in kinds.items():
        model = sm.load(root / "stock")
        sm.adapt_(model, [method])
        place = root / f"adapter-{name}"
        sm.save_adapter(model, place, base=str(root / "stock"))
        found[f"adapter {name}"] = Seed(place, sm.load, ("adapter_config.json",
                                                         "adapter_model.safetensors"))  # fmt: skip
    return found


def _native(place: Path) -> None:
    model = tiny("mamba")
    place.mkdir()
    config = {"d_model": 20, "n_layer": 2, "vocab_size": 61, "pad_vocab_size_multiple": 1,
              "ssm_cfg": {"d_state": 5}}  # fmt: skip
    (place / "config.json").write_text(json.dumps(config))
    tensors = {
        name.replace("backbone.embeddings", "backbone.embedding"): value.clone()
        for name, value in model.state_dict().items()
    }
    save_file(tensors, place / "model.safetensors")


def _sharded(source: Path, place: Path) -> None:
    shutil.copytree(source, place)
    sm.load(source).save_pretrained(place, max_shard_size="8KB")
    (place / "model.safetensors").unlink(missing_ok=True)


def _series(root: Path) -> dict[str, Seed]:
    draw = np.random.default_rng(0)
    rows = [{"x": [[0.5 * i, 1.0], [2.0, i]], "y": "ab"[i % 2], "id": i} for i in range(20)]
    steps = [{"sequence": f"s{i}", "label": "ab"[i % 2], "time": t, "v": 1.5 * t + i}
             for i in range(12) for t in (2, 0, 1)]  # fmt: skip
    splits = ["train", "validation", "selection", "test"] * 6
    np.savez(root / "a.npz", x=draw.normal(size=(24, 5, 2)), y=np.arange(24) % 2,
             lengths=np.full(24, 5), split=np.array(splits))  # fmt: skip
    table = "\n".join(["sequence,label,time,v", *(",".join(map(str, r.values())) for r in steps)])
    (root / "a.csv").write_text(table)
    (root / "b.csv").write_text(table.replace(",", ";").replace(".", ","))
    (root / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "s.json").write_text(json.dumps(rows))
    (root / "s.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    pq.write_table(pa.Table.from_pylist(rows), root / "s.parquet")
    pq.write_table(pa.Table.from_pylist(steps), root / "l.parquet")
    body = "\n".join(f"{i},2,3:4,5,{i}:{'ab'[i % 2]}" for i in range(20))
    (root / "a.ts").write_text(
        f"@problemName w\n@timeStamps false\n@classLabel true a b\n@data\n{body}"
    )
    names = ("a.npz", "a.csv", "b.csv", "s.jsonl", "s.json", "s.jsonl.gz", "s.parquet",
             "l.parquet", "a.ts")  # fmt: skip
    return {name: Seed(root / name, load_data) for name in names}


def _texts(root: Path) -> dict[str, Seed]:
    model = save_tokenizer(root / "tokenizer", template="<s>" + CHATML)
    found = find_tokenizer(model, 320)
    rows = [{"text": f"hello {i} wörld", "id": i} for i in range(30)]
    chat = [{"messages": [{"role": "user", "content": f"what {i}?"},
                          {"role": "assistant", "content": "yes"}]} for i in range(12)]  # fmt: skip
    pairs = [{"prompt": f"ask {i}", "completion": " say", "references": ["no"]} for i in range(12)]
    labels = [{"text": f"t {i}", "label": i % 2, "split": s}
              for i in range(6) for s in ("train", "validation")]  # fmt: skip
    for name, lines in (("t", rows), ("chat", chat), ("pairs", pairs), ("labels", labels)):
        (root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (root / "t.json").write_text(json.dumps(rows))
    (root / "t.txt").write_text("Some words, and more of them. " * 30)
    (root / "t.csv").write_text("id,text\n" + "\n".join(f'{i},"a, b {i}"' for i in range(20)))
    np.save(root / "t.npy", np.arange(200) % 50)
    dataset = root / "dataset"
    dataset.mkdir()
    table = pa.Table.from_pylist(rows)
    with ipc.new_stream(str(dataset / "data-0.arrow"), table.schema) as stream:
        stream.write_table(table)
    (dataset / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))

    def examples(path: Path) -> object:
        return load_examples(path, found)

    def tokenized(path: Path) -> object:
        opened = find_tokenizer(path, 320)
        return (
            opened.begin,
            opened.encode("Answer: yes"),
            opened.render([{"role": "user", "content": "a"}]),
        )

    seeds = {f"text {name}": Seed(root / name, load_text)
             for name in ("t.jsonl", "t.json", "t.txt", "t.csv", "t.npy", "dataset")}  # fmt: skip
    seeds |= {f"examples {name}": Seed(root / f"{name}.jsonl", examples)
              for name in ("t", "chat", "pairs", "labels")}  # fmt: skip
    seeds["bytes"] = Seed(root / "pairs.jsonl", lambda path: load_examples(path, ByteTokenizer()))
    seeds["tokenizer"] = Seed(model, tokenized)
    return seeds


def _settings(root: Path) -> dict[str, Seed]:
    shipped = Path(sm.__file__).parent / "artefact" / "embedded" / "digits-s5"
    (root / "tune.json").write_text(json.dumps(
        {"methods": [{"method": "lora", "targets": ["out_proj"], "rank": 2}], "data": "a.jsonl",
         "examples": {"length": 64}, "training": {"steps": 4, "epochs": None}}
    ))  # fmt: skip
    shutil.copyfile(shipped / "recipe.json", root / "recipe.json")
    model = make_model(Kind("s5"))
    plan = sm.plan(model, sm.Budget("state", 0.5, method="magnitude-uniform"))
    receipt = sm.prune_(model, plan)
    (root / "receipt.json").write_text(receipt.to_json())
    weights = {"w": torch.ones(3)}
    look = ValidationLook(step=2, train_loss=1.0, validation={"loss": 1.0}, score=(-1.0,))
    facts = Facts(identity={"seed": 0}, looks=(look,))
    write_checkpoint(
        root / "run.safetensors",
        Checkpoint(losses=torch.ones(4).double(), weights=weights, facts=facts),
    )
    init(root / "line", name="walks")

    def config(path: Path) -> object:
        return from_mapping(TuneConfig, read_settings(path), where=path.name)

    def report(path: Path) -> object:
        return write_report(Receipt.load(path), path.parent / "report")

    def checkpoint(path: Path) -> object:
        return read_checkpoint(path, {"seed": 0}, weights)

    return {
        "tune config": Seed(root / "tune.json", config),
        "recipe": Seed(root / "recipe.json", Recipe.load),
        "receipt": Seed(root / "receipt.json", report),
        "checkpoint": Seed(root / "run.safetensors", checkpoint),
        "line": Seed(root / "line", lambda path: Line.open(path).entries()),
        "shipped": Seed(shipped, sm.load, ("config.json", "ssmith.json")),
    }
