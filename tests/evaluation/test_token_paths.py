"""Parity of paths: what our engine holds, and what it finds in stock code."""

from dataclasses import replace

import pytest
import torch

from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith.core.errors import DataError, InputError, UnsupportedError
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import token_paths
from ssmith.evaluation.path_rows import PathParityConfig
from ssmith.evaluation.paths import check_paths
from ssmith.evaluation.token_paths import TokenPaths
from ssmith.families.hf.running import logits_of, running
from ssmith.families.mamba import forward as mamba
from ssmith.ops.backends import choose

pytest.importorskip("transformers")
SMALL = PathParityConfig(length=16, chunks=(1, 13), following=3)


def text(rows=2, length=20, vocabulary=61):
    return TokenWindows(
        ids=tokens(rows, length),
        lengths=torch.full((rows,), length),
        scored_from=torch.ones(rows, dtype=torch.int64),
        text_bytes=None,
        vocabulary=vocabulary,
        name="some text",
    )


def failed(report):
    return {check.name for check in report.checks if not check.passed}


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, torch.float32) for name in NAMES), ("mamba", torch.float64)]
)
def test_every_path_agrees_under_the_engine(name, dtype):
    model = tiny(name, dtype=dtype)
    kinds = [type(part) for part in model.modules()]
    report = check_paths(model, SMALL)
    assert report.passed, report.worst
    names = {check.name for check in report.checks}
    for ran in ("float64 throughout", str(dtype).removeprefix("torch.")):
        assert {
            *(f"whole against chunks of {chunk} ({ran})" for chunk in (13,)),
            f"whole against token by token ({ran})",
            f"padded on the left against alone ({ran})",
            f"padded on the right against alone ({ran})",
            f"a given first state: whole against token by token ({ran})",
        } <= names
    assert sum(check.name.startswith("3 greedy tokens") for check in report.checks) == 3
    assert {"torch against reference", "torch against reference, token by token"} <= names
    throughout = [check for check in report.checks if "throughout" in check.name]
    assert {check.tolerance for check in throughout} == {1e-10}
    assert report.paths
    assert [type(part) for part in model.modules()] == kinds


@pytest.mark.parametrize("name", ["jamba", "zamba", "bamba", "nemotron_h"])
def test_every_path_of_a_hybrid_agrees(name):
    report = check_paths(tiny_hybrid(name), SMALL, text())
    assert report.passed, report.worst
    assert sum(check.tolerance == 1e-10 for check in report.checks) == 5
    assert any(check.name.startswith("perplexity of 38 tokens") for check in report.checks)


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_stock_code_drops_the_state_and_spoils_the_cache(name):
    report = check_paths(tiny(name), replace(SMALL, stock=True), text())
    assert {
        "whole against chunks of 13 (float32)",
        "padded on the right against alone (float32)",
    } <= failed(report)
    assert "padded on the left against alone (float32)" not in failed(report)
    assert not report.passed
    assert report.paths == ()
    assert {item.name for item in report.left_out} == {
        "a given first state", "perplexity on each path",
    }  # fmt: skip


def test_chunks_are_those_a_model_could_stumble_over():
    assert TokenPaths.of(tiny("mamba"), PathParityConfig()).chunks == (1, 3, 13, 64, 65)
    six_taps = TokenPaths.of(tiny("mamba2", conv_kernel=6), PathParityConfig())
    assert six_taps.chunks == (1, 3, 5, 8, 9, 13)
    assert PathParityConfig().length_for((1, 65)) == 70
    assert PathParityConfig().length_for((1, 3)) == 40


def test_a_prefill_that_forgets_its_first_state_is_found(monkeypatch):
    monkeypatch.setattr(mamba, "_start", lambda mixer, hooks, batch: mamba.Carried())
    found = failed(check_paths(tiny("mamba"), SMALL))
    assert found == {
        f"a given first state: whole against token by token ({ran})"
        for ran in ("float64 throughout", "float32")
    }


def test_a_state_that_is_dropped_is_found_in_every_check_that_carries_one(monkeypatch):
    monkeypatch.setattr(mamba, "read", lambda cache, layer: mamba.Carried())
    found = failed(check_paths(tiny("mamba"), SMALL))
    assert {
        "whole against token by token (float64 throughout)",
        "whole against chunks of 13 (float32)",
        "padded on the left against alone (float32)",
    } <= found


def test_a_token_that_differs_counts_by_how_clearly_it_was_worse(monkeypatch):
    model, prompts = tiny("mamba"), tokens(2, 9)
    right = token_paths.greedy_after_chunks

    def second_best(model, ids, chunk, steps):
        found = right(model, ids, chunk, steps).clone()
        found[0, 1] = second
        return found

    with running(model, backend=None):
        first = right(model, prompts[1:], 7, 2)
        logits = logits_of(model, torch.cat([prompts[1:], first[:, :1]], dim=1))[0, -1].double()
        (best, other), (_, second) = logits.topk(2)
        monkeypatch.setattr(token_paths, "greedy_after_chunks", second_best)
        *same, found = token_paths.token_rows(model, prompts, SMALL, 1e-5)
    assert [check.worst for check in same] == [0.0, 0.0]
    wanted = float((best - other) / logits.abs().max().clamp_min(1.0))
    assert found.worst >= wanted * (1 - 1e-6) > 1e-5
    assert not found.passed


def test_perplexity_is_compared_on_every_path(monkeypatch):
    model = tiny("mamba")
    report = check_paths(model, SMALL, text())
    named = [check.name for check in report.checks if check.name.startswith("perplexity")]
    assert named
    assert all(name.endswith("against reference") for name in named)
    assert report.text["name"] == "some text"
    plain, calls = token_paths.window_losses, []

    def drifting(*arguments):
        calls.append(None)
        return plain(*arguments) * (1 + 1e-3 * len(calls))

    monkeypatch.setattr(token_paths, "window_losses", drifting)
    found = failed(check_paths(model, SMALL, text()))
    assert found
    assert all(name.startswith("perplexity") for name in found)
    monkeypatch.setattr(token_paths, "window_losses", plain)
    with pytest.raises(DataError, match="vocabulary"):
        check_paths(tiny("mamba", vocab_size=30), SMALL, text())


def test_a_listener_is_told_how_far_it_is():
    heard = []
    report = check_paths(tiny("mamba"), SMALL, progress=lambda *told: heard.append(told))
    assert [told[1] for told in heard] == list(range(1, len(report.checks) + 1))
    assert heard[-1] == ("compare", len(report.checks), len(report.checks), report.checks[-1].name)


def test_a_model_too_large_for_a_copy_is_compared_in_its_own_dtype():
    config = replace(SMALL, double_up_to=1000)
    report = check_paths(tiny("mamba"), config)
    assert report.rounding is None
    assert not any("float64" in check.name for check in report.checks)
    assert "double_up_to=" in report.left_out[0].why_null
    assert {round(check.tolerance, 8) for check in report.checks} == {4e-5, 5e-2}


def test_tolerances_follow_what_rounding_alone_does():
    report = check_paths(tiny("mamba", dtype=torch.bfloat16), SMALL)
    assert report.passed, report.worst
    assert 1e-4 < report.rounding < 0.1
    own = {check.tolerance for check in report.checks if "bfloat16)" in check.name}
    assert own == {4 * report.rounding}


def test_a_rounded_state_may_cost_what_it_costs_in_float64():
    model = tiny("mamba", num_hidden_layers=3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0)
    report = check_paths(model, replace(SMALL, chunks=(5,), following=1))
    (rounded,) = (check for check in report.checks if "bfloat16" in check.name)
    # A hundred times what it costs a model of small weights.
    assert rounded.worst > 1e-3
    assert rounded.passed
    assert rounded.tolerance < 8 * rounded.worst


def test_the_report_is_ready_for_json():
    found = check_paths(tiny("mamba"), replace(SMALL, chunks=(5,)))
    assert str(found).count("agrees") == len(found.checks)
    assert "not compared: perplexity on each path" in str(found)
    report = found.as_dict()
    assert report["passed"] is True
    names = {check["name"] for check in report["checks"]}
    assert "whole against chunks of 5 (float64 throughout)" in names
    assert {path["op"] for path in report["paths"]} >= {"selective_scan"}


def test_a_broken_model_fails_instead_of_passing_quietly():
    model = tiny("mamba")
    with torch.no_grad():
        model.backbone.layers[0].mixer.D[0] = torch.nan
    report = check_paths(model, SMALL)
    assert not report.passed
    assert report.as_dict()["checks"][0]["difference"] is None


def test_wrong_settings_and_models_are_refused():
    with pytest.raises(InputError, match="length is 3"):
        PathParityConfig(length=3)
    with pytest.raises(InputError, match="chunks"):
        PathParityConfig(chunks=(0,))
    with pytest.raises(InputError, match="stock code"):
        PathParityConfig(stock=True, backend="native")
    with pytest.raises(UnsupportedError):
        check_paths(torch.nn.Linear(2, 2))


def test_a_path_can_be_required():
    model = tiny("mamba")
    ran = choose("selective_scan", next(model.parameters())).backend
    assert check_paths(model, replace(SMALL, backend=ran)).passed
    with pytest.raises(UnsupportedError, match="selective_scan would run on"):
        check_paths(model, PathParityConfig(backend="reference"))
    with pytest.raises(InputError, match="'warp'"):
        check_paths(model, PathParityConfig(backend="warp"))
    with pytest.raises(UnsupportedError, match="ssd would run on"):
        check_paths(tiny("mamba2", dtype=torch.float64), PathParityConfig(backend="native"))
