"""Many adapters on one base, one of them for each row: state offsets against LoRA.

All write the same number of tokens after the same prompts. Offsets: one batch in which each row has
its own. LoRA, merged: a copy of the model for each adapter, a row each. LoRA, switched: one model,
one batch for each adapter. peft: its own batch of mixed adapters, on transformers' own code. The
base alone, all rows in one batch, is the floor. Models take turns. That the rows of offsets say
what each says alone is checked. Quick: small sizes, which exercise every line and prove nothing.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import torch
import transformers

import ssmith as sm
from record import RESULTS, record
from ssmith.core.files import read_json, write_text
from ssmith.families.hf import accelerate_
from ssmith.families.parts.hooks import SLOT
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.tune.adapters import LoRA, StateOffset, attach_

OFFSET, MERGED, SWITCHED, PEFT, FLOOR = (
    "state-offset (h), one batch", "LoRA, a merged copy each", "LoRA, a batch each",
    "LoRA by peft, one batch", "base, one batch",
)  # fmt: skip
PROJECTION = "in_proj"
"""peft refuses out_proj of Mamba, whose weight its fast path reads."""


@dataclass(frozen=True)
class Sizes:
    width: int
    layers: int
    adapters: int
    prompt: int
    tokens: int
    rounds: int


FULL, QUICK = Sizes(768, 4, 16, 32, 32, 7), Sizes(64, 2, 3, 4, 4, 3)


def base(sizes: Sizes) -> Any:
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=256, hidden_size=sizes.width, num_hidden_layers=sizes.layers, state_size=16
    )
    return transformers.MambaForCausalLM(config).eval().requires_grad_(False)


def adapted(sizes: Sizes, method: Any, count: int) -> Any:
    """Return a base with adapters attached, none of which is zero."""
    model = base(sizes)
    for number in range(count):
        attach_(model, method, name=f"a{number}", prove=False)
    draw = torch.Generator().manual_seed(1)
    for name, value in model.named_parameters():
        if SLOT in name:
            value.data.copy_(0.02 * torch.randn(value.shape, generator=draw))
    return model


def written(model: Any, ids: torch.Tensor, tokens: int, **settings: Any) -> torch.Tensor:
    found: torch.Tensor = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
        min_new_tokens=tokens, do_sample=False, pad_token_id=0, **settings,
    )  # fmt: skip
    return found


def one_by_one(model: Any, ids: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    """Write each row with its own adapter in use."""
    rows = []
    for number, row in enumerate(ids.split(1)):
        sm.adapters.use_(model, f"a{number}")
        rows.append(written(model, row, sizes.tokens))
    return torch.cat(rows)


def by_row(model: Any, ids: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    with sm.adapters.rows(model, [f"a{number}" for number in range(len(ids))]):
        return written(model, ids, sizes.tokens)


def merged_copies(lora: Any, sizes: Sizes) -> list[Any]:
    found = []
    for number in range(sizes.adapters):
        model = copy.deepcopy(lora)
        sm.adapters.use_(model, f"a{number}")
        sm.merge_adapter_(model, f"a{number}")
        found.append(accelerated(stripped(model, sizes)))
    return found


def stripped(model: Any, sizes: Sizes) -> Any:
    """Return a plain model of the same weights."""
    plain = base(sizes)
    plain.load_state_dict({name: model.state_dict()[name] for name in plain.state_dict()})
    return plain


def accelerated(model: Any) -> Any:
    accelerate_(model)
    return model


def by_peft(sizes: Sizes) -> tuple[Any, list[str]]:
    """Return transformers' own model under peft, and the adapter of each row."""
    peft = import_module("peft")
    config = peft.LoraConfig(r=8, lora_alpha=8, target_modules=[PROJECTION])
    names = [f"a{number}" for number in range(sizes.adapters)]
    model = peft.get_peft_model(base(sizes), config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    draw = torch.Generator().manual_seed(1)
    for name, value in model.named_parameters():
        if "lora_" in name:
            value.data.copy_(0.02 * torch.randn(value.shape, generator=draw))
    return model.eval(), names


def ways(sizes: Sizes, ids: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """Return how all rows are written, by name."""
    offset = adapted(sizes, StateOffset(), sizes.adapters)
    lora = adapted(sizes, LoRA(targets=(PROJECTION,)), sizes.adapters)
    copies, plain = merged_copies(lora, sizes), accelerated(base(sizes))
    stock, names = by_peft(sizes)
    rows = ids.split(1)
    if not torch.equal(by_row(offset, ids, sizes), one_by_one(offset, ids, sizes)):
        raise SystemExit("rows with their own offsets say something else than each offset alone")
    return {
        FLOOR: lambda: written(plain, ids, sizes.tokens),
        OFFSET: lambda: by_row(offset, ids, sizes),
        SWITCHED: lambda: one_by_one(lora, ids, sizes),
        MERGED: lambda: torch.cat(
            [written(model, row, sizes.tokens) for model, row in zip(copies, rows, strict=True)]
        ),
        PEFT: lambda: written(stock, ids, sizes.tokens, adapter_names=names),
    }


def table() -> str:
    """Return what is stored, as Markdown."""
    found = read_json(RESULTS / "switching.json")["summary"]
    lines = [
        "| way | tokens a second | time against the base alone |", "|---|---|---|",
        *(
            f"| {name} | {rate:,} | {found['times_the_base'][name]:.2f} |"
            for name, rate in found["tokens_per_second"].items()
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    torch.set_num_threads(1)
    tune_allocator_()
    draw = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 256, (sizes.adapters, sizes.prompt), generator=draw)
    times: dict[str, list[float]] = {}
    with torch.no_grad():
        calls = ways(sizes, ids)
        for _ in range(sizes.rounds + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times.setdefault(name, []).append(time.perf_counter() - start)
    # The first round of each fills caches.
    seconds = {name: statistics.median(found[1:]) for name, found in times.items()}
    floor = seconds[FLOOR]
    numbers = {
        "state-offset (h)": stored(adapted(sizes, StateOffset(), 1)),
        f"LoRA {PROJECTION}": stored(adapted(sizes, LoRA(targets=(PROJECTION,)), 1)),
        "a merged copy": sum(value.numel() for value in base(sizes).parameters()),
    }
    summary = {
        "adapters": sizes.adapters,
        "tokens_per_second": {
            name: round(sizes.adapters * sizes.tokens / value) for name, value in seconds.items()
        },
        "times_the_base": {name: round(value / floor, 2) for name, value in seconds.items()},
        "numbers_for_each": numbers,
    }
    record("switching", {"seconds": times, "sizes": asdict(sizes)}, summary, quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "switching.md", table())


def stored(model: Any) -> int:
    """Return how many numbers an adapter holds."""
    return sum(value.numel() for name, value in model.named_parameters() if SLOT in name)


if __name__ == "__main__":
    main()
