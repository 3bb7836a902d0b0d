"""Every way to run a Hugging Face language model, compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ssmith.core.errors import NumericalError
from ssmith.core.seeds import generator
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.parity import ParityCheck, compared
from ssmith.evaluation.path_rows import DOUBLE, TOLERANCES, PathParityConfig
from ssmith.evaluation.perplexity import window_losses
from ssmith.families.hf.double import in_double
from ssmith.families.hf.running import (
    conv_taps,
    first_states,
    greedy,
    greedy_after_chunks,
    greedy_after_padding,
    logits_after_padding,
    logits_in_chunks,
    logits_of,
    padded,
    running,
    scan_chunk,
)
from ssmith.families.paths import Backend, scan_backends, use_backend
from ssmith.families.registry import mixers

CHUNK = 64
"""Tried where a model's own code has no chunk length: what Mamba-2's scan here works in."""
PROMPT_CHUNK = 7
WAYS = (
    "in a batch padded on the left",
    "in a batch padded on the right",
    f"from prompts in chunks of {PROMPT_CHUNK}",
)
SINGLE = 1e-5
"""Smallest tolerance in a narrower dtype, where what rounding alone does is known."""
ROUNDINGS = 4.0
"""Two ways in a narrower dtype may differ by this many times what rounding alone does."""
BF16_STATE = 5e-2
"""Tolerance for a state that is rounded to bfloat16 after every token, where it is not known what
that costs a model in float64: a deep one that remembers long adds up thousands of roundings."""
PERPLEXITY = 1e-3
"""Largest relative difference of perplexities that counts as equal."""


@dataclass(kw_only=True)
class TokenPaths:
    """The ways of one language model.

    Args:
        model: a transformers language model with selective layers; left as it was.
        config: what is run.
        chunks: tokens per call to try.
        tokens: random ones, none of them 0; the last ``config.following`` of a row follow the rest.
        text: what perplexity is compared on; None to leave it out.
        rounding: what rounding alone does to the logits, in units of the largest: the reference in
            the model's own dtype against float64; None until that was measured.
        state_rounding: the same of a state rounded to bfloat16 after every token.
    """

    model: Any
    config: PathParityConfig
    chunks: tuple[int, ...]
    tokens: Int64[Tensor, "b l"]
    text: TokenWindows | None = None
    rounding: float | None = None
    state_rounding: float = 0.0

    @staticmethod
    def of(model: Any, config: PathParityConfig, text: TokenWindows | None = None) -> TokenPaths:
        """Draw the tokens, and choose chunks: those asked for, or where a model could stumble."""
        chunk = scan_chunk(model) or CHUNK
        default = {1, max(1, conv_taps(model) - 1), 3, 13, chunk, chunk + 1}
        chunks = config.chunks or tuple(sorted(default))
        shape = (config.batch, config.length_for(chunks) + config.following)
        draw = generator(config.seed, "path parity")
        drawn = torch.randint(1, model.config.vocab_size, shape, generator=draw)
        tokens = drawn.to(next(model.parameters()).device)
        return TokenPaths(model=model, config=config, chunks=chunks, tokens=tokens, text=text)

    @property
    def ids(self) -> Int64[Tensor, "b p"]:
        """The tokens without those that follow."""
        return self.tokens[:, : -self.config.following]

    def count(self) -> int:
        """Return about how many rows there will be."""
        formulas = sum(chunk < self.ids.shape[1] for chunk in self.chunks) + 3
        rest = 1 + len(WAYS)
        if self.config.stock:
            return formulas + rest
        per_path = 2 + (self.text is not None)
        return 2 * formulas + rest + per_path * (len(scan_backends(self.model)) - 1)

    def rows(self) -> Iterator[ParityCheck]:
        """Compare the logits of the model, run every way there is.

        Whole against token by token, against chunks with a carried state, in a padded batch (left
        and right) against alone, and with a given first state: in a copy in float64 throughout,
        where formulas must agree, and in the model's own dtype, where ways may differ by a few
        times what rounding alone does. In its own dtype also with a state rounded to bfloat16,
        which may cost a few times what it costs in float64, by the tokens that are generated, on
        every path the scans have, and by the perplexity of the text on each.
        """
        model, ids, stock = self.model, self.ids, self.config.stock
        with running(model, backend="reference"):
            judge = logits_of(model, ids)
        dtype = next(model.parameters()).dtype
        layers = len(mixers(model)[0]) if dtype in (torch.float32, torch.float64) else 1
        tolerance, narrow = TOLERANCES[dtype] * layers, BF16_STATE
        yield from self._in_double(judge)
        if self.rounding is not None:
            tolerance = max(SINGLE, ROUNDINGS * self.rounding)
            narrow = ROUNDINGS * self.state_rounding
        with running(model, backend=None, stock=stock):
            yield from self._formulas(model, tolerance, str(dtype).removeprefix("torch."))
            rounded = logits_in_chunks(model, ids, 1, state=torch.bfloat16)
            name = "state in float32 against bfloat16"
            yield compared(name, rounded, logits_of(model, ids), max(narrow, tolerance))
            yield from token_rows(model, self.tokens, self.config, tolerance)
        if stock:
            yield _left_out("a given first state", "stock code has no place for one")
        else:
            yield from self._backends(judge, tolerance)
        yield from self._perplexities()

    def _in_double(self, judge: Tensor) -> Iterator[ParityCheck]:
        """Compare formulas alone: a float64 copy leaves no rounding to hide a difference behind."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        if parameters > self.config.double_up_to:
            reason = f"{parameters:,} parameters; allow more with double_up_to={parameters}"
            yield _left_out("all of it in float64", reason)
            return
        with in_double(self.model) as twin, running(twin, backend=None):
            truth = logits_of(twin, self.ids)
            rounded = logits_in_chunks(twin, self.ids, 1, state=torch.bfloat16)
            own, state = (compared("", got, truth, SINGLE).worst for got in (judge, rounded))
            if own is not None and state is not None and math.isfinite(own + state):
                self.rounding, self.state_rounding = own, state
            if not self.config.stock:
                yield from self._formulas(twin, DOUBLE, "float64 throughout")

    def _formulas(self, model: Any, tolerance: float, ran: str) -> Iterator[ParityCheck]:
        """Yield what must agree to rounding, whatever the dtype."""
        ids = self.ids
        whole = logits_of(model, ids)
        for chunk in self.chunks:
            if chunk < ids.shape[1]:
                name = "token by token" if chunk == 1 else f"chunks of {chunk}"
                got = logits_in_chunks(model, ids, chunk)
                yield compared(f"whole against {name} ({ran})", got, whole, tolerance)
        for left in (True, False):
            name = f"padded on the {'left' if left else 'right'} against alone"
            yield compared(f"{name} ({ran})", *self._padded(model, left=left), tolerance)
        if self.config.stock:
            return
        with first_states(model, self.config.seed) as given:
            if given:
                started = logits_of(model, ids)
                # A prefill that drops its first state agrees with itself, and with no first state.
                heard = started if bool((started != whole).any()) else started + torch.inf
                name = f"a given first state: whole against token by token ({ran})"
                yield compared(name, logits_in_chunks(model, ids, 1), heard, tolerance)

    def _padded(self, model: Any, *, left: bool) -> tuple[Tensor, Tensor]:
        """Return logits of rows of unequal lengths in one padded batch, and of each alone."""
        following = self.tokens[:, self.ids.shape[1] :]
        prompts = _prompts(self.ids, self.config)
        together = logits_after_padding(model, prompts, following, left=left)
        alone = [
            logits_of(model, torch.cat([prompt, after])[None])[0]
            for prompt, after in zip(prompts, following, strict=True)
        ]
        return torch.cat(together), torch.cat(alone)

    def _backends(self, judge: Tensor, tolerance: float) -> Iterator[ParityCheck]:
        model, ids = self.model, self.ids
        for backend in scan_backends(model)[1:]:
            with running(model, backend=backend):
                ways = {"": logits_of(model, ids)}
                ways[", token by token"] = logits_in_chunks(model, ids, 1)
            for way, got in ways.items():
                yield compared(f"{backend} against reference{way}", got, judge, tolerance)

    def _perplexities(self) -> Iterator[ParityCheck]:
        if self.text is None or self.config.stock:
            none = "no text was given that it can read"
            reason = "stock code has one path" if self.config.stock else none
            yield _left_out("perplexity on each path", reason)
            return
        judge = self._mean_loss("reference", self.text)
        for backend in scan_backends(self.model)[1:]:
            apart = self._mean_loss(backend, self.text) - judge
            yield ParityCheck(
                name=f"perplexity of {self.text.scored:,} tokens: {backend} against reference",
                worst=abs(math.expm1(apart)) if math.isfinite(apart) else math.inf,
                tolerance=PERPLEXITY,
            )

    def _mean_loss(self, backend: Backend, text: TokenWindows) -> float:
        """Return the mean loss per counted token in nats; not a number where the model fails."""
        try:
            with use_backend(backend):
                return float(window_losses(self.model, text).sum()) / text.scored
        except NumericalError:
            return math.nan


def _left_out(name: str, reason: str) -> ParityCheck:
    return ParityCheck(name=name, worst=None, why_null=reason)


def token_rows(
    model: Any, tokens: Int64[Tensor, "b l"], config: PathParityConfig, tolerance: float
) -> Iterator[ParityCheck]:
    """Compare greedy tokens: of prompts in a padded batch, and of a prompt in chunks.

    Where two ways choose different tokens, the difference is how far apart the logits of the two
    tokens are at that place, in units of the largest: a tie within rounding is no fault.
    """
    prompts, steps = _prompts(tokens, config), config.following
    alone = [greedy(model, prompt[None], steps)[0] for prompt in prompts]
    ids, mask = padded(prompts, left=True)
    chunks = [greedy_after_chunks(model, item[None], PROMPT_CHUNK, steps) for item in prompts]
    ways = (
        greedy(model, ids, steps, mask=mask),
        greedy_after_padding(model, prompts, steps),
        torch.cat(chunks),
    )
    for way, found in zip(WAYS, ways, strict=True):
        apart = [_apart(model, *each) for each in zip(prompts, found, alone, strict=True)]
        name = f"{steps} greedy tokens {way} against alone"
        yield ParityCheck(name=name, worst=max(apart), tolerance=tolerance)


def _prompts(ids: Int64[Tensor, "b l"], config: PathParityConfig) -> list[Int64[Tensor, "_"]]:
    lengths = config.prompts(ids.shape[1])
    return [prompt[:steps] for prompt, steps in zip(ids, lengths, strict=True)]


def _apart(
    model: Any, prompt: Int64[Tensor, "_"], got: Int64[Tensor, "s"], wanted: Int64[Tensor, "s"]
) -> float:
    """Return how clearly the first token that differs was the wrong one; 0 if none differs."""
    differing = (got != wanted).nonzero()
    if not len(differing):
        return 0.0
    first = int(differing[0])
    logits = logits_of(model, torch.cat([prompt, wanted[:first]])[None])[0, -1].double()
    scale = float(logits.abs().max().clamp_min(1.0))
    # Two ways never agree exactly on a tie that fell differently.
    smallest = torch.finfo(torch.float64).tiny
    return max(float((logits[wanted[first]] - logits[got[first]]).abs()) / scale, smallest)
