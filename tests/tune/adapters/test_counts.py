"""How much each method trains on the published shapes, on no memory at all."""

import pytest
import torch

from ssmith import adapters

transformers = pytest.importorskip("transformers")

SHAPES = {
    "130M": {"hidden_size": 768, "num_hidden_layers": 24},
    "1.4B": {"hidden_size": 2048, "num_hidden_layers": 48},
}
COUNTS = {
    "state-offset-h": (589_824, 3_145_728),
    "state-offset-y": (36_864, 196_608),
    "state-offset-hy": (626_688, 3_342_336),
    "initial-state": (589_824, 3_145_728),
    "additional-scan": (884_736, 4_718_592),
    "lora": (1_204_224, 6_402_048),
    "bitfit": (73_728, 393_216),
    "prompt": (49_152, 131_072),
}
OFFICIAL = {"lora": {"targets": "official"}}
SHARES = {
    "130M": {"state-offset-h": 0.00457, "state-offset-y": 0.000285, "full-ssm": 0.0431},
    "1.4B": {"state-offset-h": 0.0023, "state-offset-y": 0.00014, "full-ssm": 0.0446},
}


@pytest.fixture(scope="module", params=SHAPES)
def size(request):
    return request.param


@pytest.fixture(scope="module")
def model(size):
    with torch.device("meta"):
        config = transformers.MambaConfig(state_size=16, vocab_size=50280, **SHAPES[size])
        return transformers.MambaForCausalLM(config)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(model, size, name):
    method = adapters.by_name(name, OFFICIAL.get(name))
    report = adapters.attach_(model, method, prove=False)
    adapters.detach_(model, "default")
    assert report.parameters == COUNTS[name][list(SHAPES).index(size)]
    layers = SHAPES[size]["num_hidden_layers"]
    assert report.coverage == ({"input": (1, 1)} if name == "prompt" else {"ssm": (layers,) * 2})


def test_shares_are_the_published_ones(model, size):
    for name, share in SHARES[size].items():
        report = adapters.attach_(model, adapters.by_name(name), prove=False)
        adapters.detach_(model, "default")
        assert report.share == pytest.approx(share, rel=0.03), name
        assert f"{report.parameters:,}" in str(report)
