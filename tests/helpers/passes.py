"""Stages of tests, and passes whose outcome does not depend on the number of processes."""

import torch

from helpers.models import Kind, make_model
from helpers.parts import make_part
from helpers.scanners import UNet, Vision, images
from helpers.selective import windows_of
from helpers.tiny_mamba import tiny
from ssmith.calibrate import Network, PassConfig, Stage, passage_of, run_pass
from ssmith.core.rows import rows
from ssmith.core.selective import ENTRY, BlockRecord
from ssmith.core.trees import digest_of
from ssmith.families.mamba.family import cut_
from ssmith.ops.selective_scan import selective_scan


def energy(layer, parts):
    """Σ y² per channel over valid steps, and the steps."""
    y, _ = selective_scan(parts.scan)
    valid = torch.ones(y.shape[:2]) if parts.valid is None else parts.valid.float()
    return {"energy": (y.square() * valid[..., None]).sum((0, 1)), "steps": valid.sum()}


def halve(layer, totals):
    """Cut the entries of the channels with least energy."""
    order = totals.sums["energy"].argsort()
    keep = torch.ones(layer.e, layer.n, dtype=torch.bool)
    keep[order[: layer.e // 2]] = False
    cut_(layer, "entry", keep, semantics="memoryless")
    facts = {"steps": float(totals.sums["steps"]), "energy": float(totals.sums["energy"].sum())}
    return BlockRecord(layer=layer.name, stage=ENTRY, keep={ENTRY: keep}, facts=facts)


def digests(place):
    """The outcome of passes by block, by network, of all rows at once, and of recordings."""
    draw = torch.Generator().manual_seed(0)
    signals = [torch.randn(2, 9 + size % 3, 4, generator=draw) for size in range(9)]
    pictures = rows([images(2, seed=seed) for seed in range(9)])
    vision = Vision(mixers=2).eval()
    sequences = make_model(Kind("s5"), layers=2)
    passages = {
        "blocks": passage_of(tiny("mamba", num_hidden_layers=2), windows_of(9, 16)),
        "images": passage_of(vision, pictures),
        "network": Network(model=vision, rows=pictures, sites=("stages.1.mixers.0",)),
        "u-net": passage_of(UNet().eval(), rows(signals)),
        "sequences": passage_of(sequences, make_part(sequences, [9, 4, 7, 5, 6, 2, 8, 9, 3])),
    }
    found = {}
    for name, passage in passages.items():
        for whole in (False, True):
            lti = name in ("u-net", "sequences")
            if lti and not whole:
                continue
            stage = Stage(
                name="stage",
                collect=_recorded if lti else energy,
                apply=_scale if lti else halve,
                whole_batch=whole,
            )
            config = PassConfig(batch_size=2, work_dir=place / f"work-{name}-{whole}")
            done = run_pass(passage, lambda _, stage=stage: [stage], config, reference=lti)
            facts = [item.facts for item in done.records]
            states = {site: state.tensors for site, state in done.states.items()}
            found[f"{name} {whole}"] = digest_of([facts, states])
    return found


def _recorded(view, recordings):
    return {
        f"{name} {place}": getattr(item, name)
        for place, item in enumerate(recordings)
        for name in ("u", "y", "wanted", "valid")
    }


def _scale(view, totals):
    with torch.no_grad():
        view.layer.get_parameter("D").mul_(float(totals.sums["u 0"].abs().mean()))
    sums = [float(value.sum()) for value in totals.sums.values()]
    return BlockRecord(layer=view.name, stage="scale", facts={"sums": sums})
