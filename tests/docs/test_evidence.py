"""The tables of the evidence are what the stored results say, and every include is there."""

import importlib
import itertools
import json
import re

import pytest

from helpers.pages import ROOT

RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def stored(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def page(name):
    return (RESULTS / f"{name}.md").read_text(encoding="utf-8")


def test_costs_are_rendered_from_what_is_stored(benchmark):
    assert benchmark("costs_table").table() == page("costs")


def test_what_a_watch_found_is_rendered_from_what_is_stored(benchmark):
    rows = stored("watch")["rows"]
    assert benchmark("watch").table(rows) + "\n" == page("watch")
    assert all(row["evidently"] is not None and row["looks"] for row in rows)
    told = stored("watch_curve")["rows"]
    curve = benchmark("watch_curve")
    assert curve.table(told) + "\n" == page("watch_loss")
    # At least as often as it promises.
    assert sum(map(curve.inside, told)) >= sum(row["level"] for row in told)


def test_the_losses_of_criteria_are_rendered_from_what_is_stored(benchmark):
    assert benchmark("lti").table(stored("lti")["quality"]) == page("lti")


def test_what_cuts_of_states_cost_is_rendered_from_what_is_stored(benchmark):
    raw, mamba2 = stored("mamba2"), benchmark("mamba2")
    assert mamba2.table(raw["rows"], raw["recall"], raw["model"]) == page("mamba2")
    said = " ".join((ROOT / "docs" / "evidence.md").read_text().split())

    def ratio(method, text, share=0.75):
        of, ghost = (
            mamba2.increase(raw["rows"], name, share, text)[0] for name in (method, "GHOST")
        )
        return f"{of / ghost:.2f}"

    own, other = mamba2.TEXTS
    whole, refit = "balanced truncation", "greedy, output maps refitted"
    usual = "greedy, reading rows and output maps refitted"
    assert mamba2.METHODS[usual] == {}
    assert f"costs {ratio(whole, own)} of what GHOST costs on Python" in said
    deepest = [ratio(whole, text, 0.875) for text in (own, other)]
    assert (
        f"and {ratio(whole, other)} of it on prose; at seven eighths {' and '.join(deepest)}."
        in said
    )
    assert f"cost {ratio(usual, own)} of GHOST's on Python and {ratio(usual, other)} on" in said
    assert f"map alone it is {ratio(refit, own)} and {ratio(refit, other)}." in said
    opened = [name for name in mamba2.METHODS if name != whole]
    for share in mamba2.SHARES:
        for text in (own, other):
            costs = {
                name: mamba2.increase(raw["rows"], name, share, text)[0]
                for name in (*opened, mamba2.STREAM)
            }
            best = min(costs, key=costs.get)
            first = (share, text) == (0.5, other)
            assert best == ("energy at the output" if first else usual)


def test_what_cuts_of_a_hybrid_cost_is_rendered_from_what_is_stored(benchmark):
    raw, hybrid = stored("hybrid"), benchmark("hybrid")
    assert hybrid.table(raw) == page("hybrid")
    assert hybrid.gone(raw, next(iter(hybrid.RECIPES))) > 1 / 3
    said = " ".join((ROOT / "docs" / "evidence.md").read_text().split())

    def cost(unit, share, method, text):
        return hybrid.cell(raw["rows"], (unit, share), method, text)[0]

    neurons, width, together = {}, {}, {}
    for text in hybrid.TEXTS:
        neurons[text], width[text] = (
            {name: cost(unit, 0.25, name, text) for name in ("OBS, refitted", "energy", "Minitron")}
            for unit in ("neuron", "head_dim")
        )
        ours, stock, theirs = (cost(hybrid.TOGETHER, 0.75, name, text) for name in hybrid.RECIPES)
        together[text] = [f"{item / theirs:.2f}" for item in (ours, stock)]
    own, other = hybrid.TEXTS
    first, second = (
        f"{neurons[text]['OBS, refitted'] / neurons[text]['energy']:.2f}" for text in (own, other)
    )
    assert f"costs {first} of what energy scores cost on Python, {second} on prose" in said
    narrow = width[own]["OBS, refitted"] / width[own]["Minitron"]
    assert f"OBS costs {narrow:.2f} of what Minitron's score costs" in said
    (ours, stock), (ours_other, stock_other) = together[own], together[other]
    assert f"{ours} of the literature's recipe on Python and {ours_other} on prose" in said
    assert f"opens {stock} and {stock_other}" in said


def test_what_cuts_take_of_a_memory_is_rendered_from_what_is_stored(benchmark):
    raw, recall = stored("recall"), benchmark("recall")
    assert recall.table(raw) == page("recall")
    lost = 100 * raw["dense"] - recall.cell(raw["rows"], "balanced truncation", 0.5)[0]
    said = (ROOT / "docs" / "evidence.md").read_text()
    assert f"go for {lost:.1f} points" in said
    usual = next(name for name, how in recall.METHODS.items() if not how)
    lost = 100 * raw["dense"] - recall.cell(raw["rows"], usual, 0.5)[0]
    assert f"{lost:.1f} points less than all at a half" in said
    alike = [name for name in recall.METHODS if name.startswith(("greedy", "energy at"))]
    for share in recall.SHARES:
        kept = {name: recall.cell(raw["rows"], name, share) for name in recall.METHODS}
        ranked = sorted(kept, key=lambda name: kept[name][0], reverse=True)
        assert ranked[0] == "balanced truncation"
        assert set(ranked[1 : 1 + len(alike)]) == set(alike)
        # Their ranges over seeds overlap.
        assert max(kept[name][1] for name in alike) < min(kept[name][2] for name in alike)
    ghost, greedy = (recall.cell(raw["rows"], name, 0.75)[0] for name in ("GHOST", "greedy"))
    assert 0.3 < 1 - ghost / greedy < 0.4


def test_what_tuning_gives_back_is_rendered_from_what_is_stored(benchmark):
    raw, recovery = stored("recovery"), benchmark("recovery")
    assert recovery.table(raw) == page("recovery")
    found = {
        name: {
            text: recovery.increase(raw["rows"], name, recovery.SHARE, text)
            for text in recovery.TEXTS
        }
        for name in {row["method"] for row in raw["rows"]}
    }
    lora = next(name for name in found if name.startswith("columns: LoRA"))
    own, other = recovery.TEXTS
    # What the page says in words.
    offsets = found["columns: state offsets"]
    assert all(
        abs(offsets[text][0] - found[lora][text][0]) < found[lora][text][1] for text in (own, other)
    )
    before, pilot = found["columns: nothing"], found["columns: state offsets, as a pilot does"]
    given = [f"{1 - pilot[text][0] / before[text][0]:.2f}" for text in (own, other)]
    said = " ".join((ROOT / "docs" / "evidence.md").read_text().split())
    assert f"{given[0]} of the loss on Python and {given[1]} on prose" in said
    for text in recovery.TEXTS:
        assert pilot[text][0] < found[lora][text][0] < pilot[text][0] + 2 * found[lora][text][1]
    shares = [
        row["shares"]
        for row in raw["rows"]
        if row["method"].startswith("columns") and "shares" in row
    ]
    assert all(share[:2] == [1, 1 / 8] for share in shares)
    assert len(shares) == 3


def test_the_speed_of_cut_mamba2_is_rendered_from_what_is_stored(benchmark):
    assert benchmark("mamba2_speed").table(stored("mamba2_speed")) == page("mamba2_speed")


def test_the_speed_of_shrunk_layers_is_rendered_from_what_is_stored(benchmark):
    assert benchmark("lti_speed").table(stored("lti_speed")) == page("lti_speed")


def test_what_was_measured_outside_of_text_is_rendered_from_what_is_stored(benchmark):
    table = benchmark("domain_table")
    rows = stored("domains")["rows"]
    assert table.table(rows) == page("domains")
    assert stored("domains")["summary"] == table.summary(rows)
    for task in table.tasks(rows):
        runs = [*table.final(rows, task).values(), table.own(rows, task, "dense")]
        assert all(len({row["seed"] for row in run}) == len(run) == 3 for run in runs)


TUNED = sorted(path.stem for path in RESULTS.glob("tuning*.md") if path.stem != "tuning_costs")


@pytest.mark.parametrize("name", TUNED)
def test_what_tuning_gains_is_rendered_from_what_is_stored(benchmark, name):
    raw = stored(name)
    assert benchmark("tuning_table").page(raw["rows"], raw["about"]) == page(name)
    for task, methods in raw["about"]["methods"].items():
        # Nothing is chosen that was not tried, and whole seeds are compared.
        own = [row for row in raw["rows"] if row["task"] == task]
        assert {row["method"] for row in own} == set(methods)
        assert {row["seed"] for row in own} == set(range(raw["about"]["seeds"]))


@pytest.mark.parametrize("task", ["C headers", "dart"])
def test_what_the_pages_say_of_tuning_on_text_is_what_was_measured(benchmark, task):
    table = benchmark("tuning_table")
    found = {item.task: item for item in table.tables(stored("tuning")["rows"])}[task]
    means = {item.method: item.mean for item in found.results}
    values = {item.method: item.values for item in found.results}
    assert min(means, key=means.get) in ("full", table.AUTO_ANY)
    large = values["core, as many numbers as LoRA all, Muon"]
    for rival in ("LoRA all", "LoRA all, Muon"):
        assert max(large) < min(values[rival])
    for end in ("", ", Muon"):
        assert means[f"core{end}"] < means[f"LoRA out_proj{end}"]
    gain = 1 - means["state-offset (h), Muon"] / means["state-offset (h)"]
    assert 0.02 <= gain < 0.03
    assert means["LoRA out_proj, Muon"] < means["state-offset (h), Muon"]
    assert means["state-offset (h) + LoRA out_proj"] < means["LoRA out_proj"]
    lost = table.behind(found)
    missed = {name for name, behind in lost.items() if behind > 2}
    assert missed <= {"initial state"}
    assert not any(lost[name] for name in (table.AUTO, table.AUTO_ANY))


@pytest.mark.parametrize(("task", "lag"), [("C headers", 3.2), ("dart", 1.1)])
def test_what_the_pages_say_of_200_steps_is_what_was_measured(benchmark, task, lag):
    table = benchmark("tuning_table")
    found = {item.task: item for item in table.tables(stored("tuning_200")["rows"])}
    of = {item.method: item for item in found[task].results}
    order = [
        "full", "core, as many numbers as LoRA all, Muon", "LoRA all", "LoRA out_proj, Muon",
        "state-offset (h), Muon",
    ]  # fmt: skip
    assert sorted(order, key=lambda name: of[name].mean) == order
    assert all(
        max(of[one].values) < min(of[two].values)
        for one, two in itertools.pairwise(order[: 3 if task == "dart" else 5])
    )
    assert round(100 * (1 - of[order[1]].mean / of["LoRA all"].mean)) == 7
    assert round(100 * (of[order[4]].mean / of[order[3]].mean - 1), 1) == lag
    broken = {item.method: item for item in found["vowels"].results}["LoRA all"]
    assert broken.row["rate"] == 0.005
    assert round(broken.mean) == 97
    assert max(broken.usual) < min(broken.values)


def test_what_tuning_costs_is_rendered_from_what_is_stored(benchmark):
    assert benchmark("tuning_costs").table(stored("tuning_costs")) == page("tuning_costs")


def test_which_tuning_method_when_is_rendered_from_what_is_stored(benchmark):
    which = benchmark("which_tuning")
    assert which.page() == page("which_tuning")
    # What the page says in words: offsets lose on text, and lead where few numbers are trained.
    told = {(task, ahead) for task, _, _, ahead in which.duels(which.runs())}
    assert {ahead for task, ahead in told if task.startswith("text")} == {"LoRA"}
    assert "offset" not in {ahead for _, ahead in told}
    small = [which.best(own, 500) for own in which.runs().values()]
    assert {run.method for run in small if run} == {"state-offset (y) + head"}


def test_tuning_from_few_rows_is_rendered_from_what_is_stored(benchmark):
    few, rows = benchmark("few_rows"), stored("few_rows")["rows"]
    assert few.table(rows) == page("few_rows")
    for task in ("speech", "images", "sensors", "demand"):
        for count in few.COUNTS:
            found = few.final(rows, task, count)
            assert set(found) == set(few.METHODS)
            assert {len({row["seed"] for row in runs}) for runs in found.values()} == {3}
            # What the page says in words.
            ours, rival = (
                [row["target"] for row in found[f"{name} + head"]]
                for name in ("state-offset (y)", "LoRA")
            )
            assert min(ours) <= max(rival)
            assert min(rival) <= max(ours)


def test_many_adapters_in_one_batch_are_rendered_from_what_is_stored(benchmark):
    switching = benchmark("switching")
    assert switching.table() == page("switching")
    times = stored("switching")["summary"]["times_the_base"]
    assert times[switching.OFFSET] == min(
        time for way, time in times.items() if way != switching.FLOOR
    )
    assert round(times[switching.MERGED] / times[switching.OFFSET]) == 3


def test_what_is_not_measured_is_said(benchmark):
    assert benchmark("samples").table([]) == "No row is measured yet.\n"
    row = {"cut": "columns 50 %, refitted", "value": 4, "seed": 0, "bits_per_byte": 1.6}
    shown = benchmark("samples").table([{**row, "dense": 1.5}])
    assert "+0.1000" in shown
    assert "not measured" in shown


def test_every_include_of_the_evidence_is_in_the_repository():
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    for name in re.findall(r'^--8<-- "([^":]+)', text, re.M):
        assert (ROOT / name).is_file() or (RESULTS / name).is_file(), name
