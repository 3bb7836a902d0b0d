"""What a pass does at each site, and how it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal, get_args

from ssmith.calibrate.shards import Group
from ssmith.core.checks import check_choice, check_integer, check_number
from ssmith.core.selective import BlockRecord, Statistics, Totals

Order = Literal["sequential", "together"]
BRANCHES = frozenset({"x", "z"})
"""What ``in_proj`` and ``conv1d`` make of a mixer's input."""
SELECTION = BRANCHES | {"selected"}
"""These, and what ``x_proj`` makes of them."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One look at a site, and what follows from it.

    Args:
        name: for receipts.
        collect: the statistics of what flows through the site in one batch: sums over its rows,
            steps that are not valid counting for nothing. None if the stage needs no data.
        apply: decides, and writes the decision into the site.
        whole_batch: give ``collect`` all rows at once, for statistics that are no sums over rows:
            one batch of all of them for a selective site, all recordings for an LTI site.
        samples: what ``collect`` returns is no sum, but something for each of some steps, along the
            first axis; batches come one behind the other, in order.
        keeps: streams that are all that the stage reads, and that its ``apply`` leaves valid, so
            that they may be kept for what follows: none, `BRANCHES` or `SELECTION`.
        behind: give ``collect`` what the stream behind the block lacks of the dense network's, too;
            the pass runs with it as a reference.
    """

    name: str
    collect: Callable[[Any, Any], Statistics] | None
    apply: Callable[[Any, Totals], BlockRecord]
    whole_batch: bool = False
    samples: bool = False
    keeps: frozenset[str] = frozenset()
    behind: bool = False


Stages = Callable[[Any], Sequence[Stage]]
"""What is done to a site, by its view."""


@dataclass(frozen=True, kw_only=True)
class PassConfig:
    """How a pass runs; but for ``order``, nothing here changes what it decides.

    Args:
        batch_size: rows per forward pass, ≥ 1; 4 if None, of sequences that S5 and S4D read 64.
        work_dir: keep activations and finished sites here, and go on from what it holds; None to
            keep all in memory.
        kept_gb: memory, in 10⁹ bytes, for what flows inside a site, where a cut leaves it as it is;
            what does not fit is computed again. ≥ 0.
        order: ``"sequential"``: every site is measured behind those that are cut already;
            ``"together"``: all of them in the dense network, which takes a single forward pass
            where there are no blocks.
        identity: what the result depends on beside rows and sites; a directory with another one is
            refused.
        lasting: whether a working directory keeps what became of the sites; not for a pass that
            only measures.
    """

    batch_size: int | None = None
    work_dir: Path | None = None
    kept_gb: float = 1.0
    order: Order = "sequential"
    identity: Mapping[str, Any] = field(default_factory=dict)
    lasting: bool = True

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size, at_least=1)
        check_number("kept_gb", self.kept_gb, at_least=0)
        check_choice("order", self.order, get_args(Order))

    def at_once(self, usual: int = 4) -> int:
        """Return how many rows run in one forward pass."""
        return self.batch_size or usual

    @property
    def kept_bytes(self) -> int:
        """``kept_gb`` in bytes."""
        return round(self.kept_gb * 1e9)


@contextmanager
def measuring(config: PassConfig) -> Iterator[PassConfig]:
    """Yield the configuration of a pass that only measures, and leave nothing of it."""
    if config.work_dir is None:
        yield config
        return
    place = config.work_dir / f"survey-{Group.current().rank}"
    rmtree(place, ignore_errors=True)
    try:
        yield replace(config, work_dir=place, lasting=False)
    finally:
        rmtree(place, ignore_errors=True)
