from ssmith.core.findings import gravest_first
from ssmith.core.told import told_of


def test_how_data_was_read_is_told_where_it_could_be_meant_otherwise():
    found = told_of(
        {
            "before_each_row": "id 1",
            "keys_ignored": {"id": 20, "source": 3},
            "suspicions": ["channel 0 is -9999 at 1 step"],
            "separated_by": ";",
            "decimal_point": ",",
        }
    )
    assert [item.kind for item in gravest_first(found)] == [
        "suspicious-values", "begin", "keys-ignored", "table",
    ]  # fmt: skip
    assert [item.grave for item in gravest_first(found)] == [True, False, False, False]
    said = " ".join(item.message for item in found)
    for words in ("channel 0 is -9999", "id 1", "id (20), source (3)", "';'", "decimal point ','"):
        assert words in said


def test_the_unit_of_errors_is_told_where_targets_were_scaled():
    [found] = told_of({"scaling": {"targets": {"yield": 0.0009, "flag": 1.0}}})
    assert found.kind == "scaled-targets"
    assert "standard deviations of the targets (yield 0.0009)" in found.message
    assert told_of({"scaling": {"by": "none", "targets": {"yield": 1.0}}}) == []


def test_what_was_read_as_it_stands_is_not_told():
    assert told_of({}) == []
    assert told_of({"before_each_row": "nothing", "keys_ignored": {}, "suspicions": []}) == []
