"""Findings are told the gravest first, each once."""

from ssmith.core.findings import gravest_first, is_grave


def finding(kind, message=""):
    return {"layer": "", "kind": kind, "message": message, "units": []}


def test_the_gravest_stand_first_and_notes_of_timing_last():
    given = [finding(kind) for kind in ("unsettled", "silent", "emptied", "leak", "weak-model")]
    told = [item["kind"] for item in gravest_first([*given, given[2]])]
    assert told == ["weak-model", "leak", "emptied", "silent", "unsettled"]
    assert [is_grave(finding(kind)) for kind in told] == [True, True, True, False, False]
    assert gravest_first([]) == []
