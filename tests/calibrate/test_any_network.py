"""The pass through networks of any make, on data of any kind."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ssmith as sm
from helpers.models import Kind, make_model
from helpers.parts import make_part
from helpers.scanners import UNet, Vision, images
from helpers.selective import windows_of
from helpers.tiny_mamba import tiny
from ssmith.calibrate import Chain, Network, PassConfig, Stage, passage_of, run_pass
from ssmith.calibrate.sites import view_of
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.selective import BlockRecord, Totals
from ssmith.families import find_layers
from ssmith.families.mamba.family import cut_
from ssmith.families.state import restore_
from ssmith.ops.selective_scan import selective_scan

pytest.importorskip("transformers")


def energies(view, parts):
    """Σ y² per channel over valid steps, steps, and calls."""
    y, _ = selective_scan(parts.scan)
    valid = torch.ones(y.shape[:2]) if parts.valid is None else parts.valid
    energy = (y.double().square() * valid[..., None]).sum((0, 1))
    return {"energy": energy, "steps": valid.double().sum(), "calls": torch.tensor(1.0)}


def halve(view, totals):
    """Cut the entries of the channels with least energy."""
    keep = torch.ones(view.e, view.n, dtype=torch.bool)
    keep[totals.sums["energy"].argsort()[: view.e // 2]] = False
    cut_(view, "entry", keep, semantics="memoryless")
    facts = {name: float(totals.sums[name]) for name in ("steps", "calls")}
    return BlockRecord(layer=view.name, stage="entry", keep={"entry": keep}, facts=facts)


def stages(view):
    return [Stage(name="entry", collect=energies, apply=halve)]


def same(one, other, tolerance=1e-12):
    assert list(one.states) == list(other.states)
    for mine, theirs in zip(one.records, other.records, strict=True):
        assert (mine.layer, mine.facts) == (theirs.layer, theirs.facts)
        for name, keep in mine.keep.items():
            assert torch.equal(keep, theirs.keep[name])
    for name, state in one.states.items():
        for key, value in state.tensors.items():
            torch.testing.assert_close(
                value, other.states[name].tensors[key], atol=tolerance, rtol=tolerance
            )


def as_network(chain):
    """The same way, without a look at blocks."""
    sites = tuple(site for part in chain.parts for site in part.sites)
    return Network(model=chain.model, rows=chain.rows, sites=sites)


@pytest.mark.parametrize(
    "model",
    [
        tiny("mamba", num_hidden_layers=3, dtype=torch.float64),
        tiny("falcon_mamba", dtype=torch.float64),
        Vision(mixers=2).double().eval(),
    ],
    ids=["mamba", "falcon_mamba", "vision"],
)
@pytest.mark.parametrize("order", ["sequential", "together"])
def test_block_by_block_is_the_whole_network_again_and_again(model, order):
    rows = sm.rows([images(), images(seed=1)])
    if not isinstance(model, Vision):
        rows = windows_of(5, 16, lengths=torch.tensor([16, 9, 16, 12, 16]))
    before = copy.deepcopy(model.state_dict())
    chain, config = passage_of(model, rows), PassConfig(batch_size=2, order=order)
    assert isinstance(chain, Chain)
    by_block = run_pass(chain, stages, config)
    same(by_block, run_pass(as_network(chain), stages, config))
    assert ("order" in by_block.records[0].facts) == (order == "together")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_sites_are_measured_behind_the_cut_ones_or_all_in_the_dense_network():
    model, rows = Vision(mixers=2).eval(), sm.rows([images()])
    orders = {
        order: run_pass(passage_of(model, rows), stages, PassConfig(order=order)).records
        for order in ("sequential", "together")
    }
    cut = copy.deepcopy(model)
    for record, dense in zip(orders["sequential"], orders["together"], strict=True):
        for network, wanted in ((cut, record), (model, dense)):
            seen = []
            site = network.get_submodule(record.layer)
            hook = site.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
            with torch.no_grad():
                network(images())
            hook.remove()
            view = passage_view(record.layer, network)
            found = energies(view, view.parts(seen[0]))
            keep = halve(
                passage_view(record.layer, copy.deepcopy(network)), Totals(sums=found)
            ).keep
            assert torch.equal(keep["entry"], wanted.keep["entry"])
        cut_(passage_view(record.layer, cut), "entry", record.keep["entry"], semantics="memoryless")


def passage_view(name, network):
    return view_of(name, network.get_submodule(name))


@pytest.mark.parametrize("chained", [True, False])
def test_a_mixer_that_is_called_twice_gives_two_batches(chained):
    model, rows = Vision(mixers=1).eval(), sm.rows([images(), images(3)])
    passage = passage_of(model, rows)
    found = run_pass(passage if chained else as_network(passage), stages)
    assert [item.layer for item in found.records] == ["stages.0.mixers.0", "stages.1.mixers.0"]
    # Nine patches there and nine back.
    assert found.records[0].facts == {"steps": 9.0 * 18, "calls": 4.0}


def _masked(valid):
    mask = torch.arange(9) < torch.tensor([9, 4, 6, 9, 2, 8])[:, None]
    return sm.rows([{"pixels": images(), "mask": mask}], valid=valid(mask))


def test_masks_of_a_site_that_is_called_twice_are_given_call_by_call():
    model = Vision(mixers=1).eval()
    rows = _masked(lambda mask: lambda batch: {"stages.*": [mask, mask.flip(1)]})
    assert run_pass(passage_of(model, rows), stages).records[0].facts["steps"] == 2 * 38
    for valid, said in (
        (
            lambda mask: "mask",
            r"one mask, and stages\.0\.mixers\.0 is called 2 times.*valid=lambda",
        ),
        (lambda mask: lambda batch: {"stages.*": [mask]}, "1 masks for the 2 calls"),
        (lambda mask: lambda batch: {"head": mask}, r"masks for head, and none for stages\.0"),
        (lambda mask: lambda batch: {"*": mask[:, :5]}, r"\(6, 5\).*is given \(6, 9, 12\)"),
    ):
        with pytest.raises(InputError, match=said):
            run_pass(passage_of(model, _masked(valid)), stages)


def test_masks_of_two_mixers_are_their_own():
    model = Vision(mixers=2).eval()
    rows = _masked(lambda mask: lambda batch: {"*.0": mask, "*.1": mask.flip(1)})
    facts = {item.layer: item.facts for item in run_pass(passage_of(model, rows), stages).records}
    assert {item["steps"] for item in facts.values()} == {38.0}
    assert len(facts) == 4


@pytest.mark.parametrize(
    "rows",
    [
        lambda x: sm.rows(DataLoader(TensorDataset(x), batch_size=2)),
        lambda x: sm.rows(DataLoader([{"pixels": item} for item in x], batch_size=2)),
        lambda x: sm.rows([(x[:2], "a"), (x[2:4], "b"), (x[4:], "c")]),
        lambda x: sm.rows([{"image": x}], lambda model, batch: model(batch["image"])),
    ],
    ids=["tuples", "dicts", "names", "forward"],
)
def test_the_data_may_come_in_any_shape(rows):
    model = Vision(mixers=2).eval()
    wanted = run_pass(passage_of(model, sm.rows([images()])), stages)
    found = run_pass(passage_of(model, rows(images())), stages)
    for mine, theirs in zip(found.records, wanted.records, strict=True):
        assert torch.equal(mine.keep["entry"], theirs.keep["entry"])
        assert mine.facts["steps"] == theirs.facts["steps"]


def look(view, recordings):
    """Sums over recordings of an LTI layer: what it reads, gives, and should give."""
    sums = [
        sum(getattr(item, name)[item.valid].double().square().sum() for item in recordings)
        for name in ("u", "y", "wanted")
    ]
    steps = sum(item.valid.sum() for item in recordings)
    return {"sums": torch.stack(sums), "steps": steps}


def drop(view, totals):
    """Switch off half of the states."""
    view.layer.mask_(torch.arange(view.layer.n_states) % 2 == 0)
    facts = {"sums": totals.sums["sums"].tolist(), "steps": float(totals.sums["steps"])}
    return BlockRecord(layer=view.name, stage="state", facts=facts)


def lti_stages(view):
    return [Stage(name="state", collect=look, apply=drop, whole_batch=True)]


def test_layers_in_a_u_net_are_recorded_where_they_stand():
    model, x = UNet().double().eval(), torch.randn(4, 11, 4, dtype=torch.float64)
    passage = passage_of(model, sm.rows([x[:3], x[3:]]))
    assert isinstance(passage, Network)
    found = run_pass(passage, lti_stages, reference=True)
    assert [item.layer for item in found.records] == ["down", "middle", "up"]
    cut = copy.deepcopy(model)
    for record in found.records:
        seen = []
        for network in (cut, model):
            layer = find_layers(network)[record.layer]
            hook = layer.register_forward_hook(
                lambda _, args, out, seen=seen: seen.append((args[0], out))
            )
            with torch.no_grad():
                network(x)
            hook.remove()
        (u, y), (_, wanted) = seen
        expected = [float(item.square().sum()) for item in (u, y, wanted)]
        assert record.facts["sums"] == pytest.approx(expected, rel=1e-12)
        restore_(cut.get_submodule(record.layer), found.states[record.layer])


def test_sequence_models_are_chains_with_their_masks():
    model = make_model(Kind("s5", bidirectional=True), layers=3)
    part = make_part(model, [9, 4, 7, 9, 2])
    chain = passage_of(model, part)
    assert isinstance(chain, Chain)
    config = PassConfig(batch_size=2)
    found = run_pass(chain, lti_stages, config, reference=True)
    other = run_pass(as_network(chain), lti_stages, config, reference=True)
    for mine, theirs in zip(found.records, other.records, strict=True):
        assert mine.facts["steps"] == theirs.facts["steps"] == 31
        assert mine.facts["sums"] == pytest.approx(theirs.facts["sums"], rel=1e-12)
    same(dataclasses.replace(found, records=()), dataclasses.replace(other, records=()))


class Odd(nn.Module):
    """Blocks that are no chain, for one reason each."""

    def __init__(self, why):
        super().__init__()
        self.why = why
        self.blocks = nn.ModuleList(make_model(Kind("s5"), layers=1).blocks[0] for _ in range(2))

    def forward(self, x):
        first, second = self.blocks
        if self.why == "twice":
            return second(first(first(x, None), None), None)
        if self.why == "other masks":
            mask = torch.ones(*x.shape[:2], 1, dtype=torch.bool)
            return second(first(x, mask), mask & (x[..., :1] > 0))
        if self.why == "masks of blocks":
            handed = first(x, torch.ones(*x.shape[:2], 1, dtype=torch.bool))
            return second(handed, (handed == x).all(-1, keepdim=True))
        if self.why == "something between":
            return second(2 * first(x, None), None)
        return second(first(x, None), None) if self.why == "chain" else first(second(x, None), None)


@pytest.mark.parametrize(
    ("why", "kind"),
    [("chain", Chain), ("twice", Network), ("other masks", Chain), ("other order", Network),
     ("masks of blocks", Network),
     ("something between", Network)],
)  # fmt: skip
def test_only_what_proves_to_be_a_chain_is_taken_for_one(why, kind):
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    assert isinstance(passage_of(Odd(why), sm.rows([x])), kind)


def test_sites_that_data_do_not_reach_are_named():
    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(make_model(Kind("s5"), layers=1).blocks[0] for _ in range(2))

        def forward(self, x):
            return self.parts[0](x, None)

    rows = sm.rows([torch.randn(2, 6, 3, dtype=torch.float64)])
    with pytest.raises(UnsupportedError, match=r"parts\.1\.ssm is not called"):
        passage_of(Deaf(), rows)
    assert passage_of(Deaf(), rows, ["parts.0.ssm"]).sites == ("parts.0.ssm",)
    with pytest.raises(InputError, match=r"no site nothing.*parts\.0\.ssm"):
        passage_of(Deaf(), rows, ["nothing"])


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_pass_through_a_foreign_network_goes_on(tmp_path, network, after):
    model, rows = Vision(mixers=2).eval(), sm.rows([images(), images(seed=1)])

    def passage():
        found = passage_of(model, rows)
        return as_network(found) if network else found

    wanted = run_pass(passage(), stages)

    def kill(stage, done, total, note):
        if done == after:
            raise KeyboardInterrupt

    config = PassConfig(work_dir=tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        run_pass(passage(), stages, config, progress=kill)
    (tmp_path / "work" / ".pass.json.abc").write_bytes(b"")
    same(run_pass(passage(), stages, config), wanted, 0.0)


def test_a_directory_that_only_a_killed_process_touched_is_begun_anew(tmp_path):
    model, rows = UNet().eval(), sm.rows([torch.randn(2, 8, 4)])
    (tmp_path / ".pass.json.ssmith-01234567").write_text('{"finger')
    found = run_pass(passage_of(model, rows), lti_stages, PassConfig(work_dir=tmp_path))
    assert len(found.records) == 3
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        "pass.json", "site-0000.safetensors", "site-0001.safetensors", "site-0002.safetensors",
    ]  # fmt: skip
