"""Whether a record belongs to a run: compared as JSON, with the keys that differ."""

import json

import pytest

from ssmith.core.errors import ArtefactError
from ssmith.core.identity import as_json, check_same_run

RUN = {
    "settings": {"rate": 0.1, "targets": ("in_proj", "out_proj"), "rates": {1: 2.0}, "none": {}},
    "data": "abc",
}


def check(there, wanted):
    check_same_run(there, wanted, what="kept", next_step="delete it")


def test_what_json_gave_back_is_the_same_run():
    check(json.loads(json.dumps(RUN)), RUN)
    check(RUN, as_json(RUN))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "abd"}, 'data was "abc" and is "abd"'),
        ({"settings": {**RUN["settings"], "rate": 0.2}}, "settings.rate was 0.1 and is 0.2"),
        ({"settings": {**RUN["settings"], "none": None}}, "settings.none was {} and is null"),
        ({"more": 1}, "more was null and is 1"),
        # A key that is not there is another run than one whose value is null.
        ({"more": None}, "more was null and is null"),
        ({"data": "x" * 99}, 'data was "abc" and is "' + "x" * 59 + "…"),
        ({"data": 1, "a": 2, "b": 3}, "a was null and is 2, b was null and is 3, and 1 more"),
    ],
)
def test_what_differs_is_named(change, said):
    with pytest.raises(ArtefactError) as caught:
        check(RUN, {**RUN, **change})
    assert f"kept belongs to a run with other settings or data: {said}; next: delete it." in str(
        caught.value
    )
