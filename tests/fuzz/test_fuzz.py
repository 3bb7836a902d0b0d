"""A minute of what ``make fuzz`` does at length, always the same cases."""

import pytest
import torch

from fuzz.run import FINE, run

CASES = 70 * 3


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused_by_name(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = run(CASES, tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert [item for item in found if item["outcome"] not in FINE] == []
    outcomes = [item["outcome"] for item in found]
    # Damage that no reader minds would show nothing.
    assert outcomes.count("refused") > CASES / 2
    assert outcomes.count("read") > CASES / 20
