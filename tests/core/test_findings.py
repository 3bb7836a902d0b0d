"""Findings are told the gravest first, each once."""

from ssmith.core.findings import Finding, findings_in, gravest_first


def finding(kind, message=""):
    return Finding(layer="", kind=kind, message=message)


def test_the_gravest_stand_first_and_notes_of_timing_last():
    given = [finding(kind) for kind in ("unsettled", "silent", "emptied", "leak", "weak-model")]
    told = [item.kind for item in gravest_first([*given, given[2]])]
    assert told == ["weak-model", "leak", "emptied", "silent", "unsettled"]
    assert [finding(kind).grave for kind in told] == [True, True, True, False, False]
    assert gravest_first([]) == []


def test_what_a_document_holds_are_the_findings_that_were_written():
    given = [Finding(layer="a", kind="leak", message="x", units=(1, 2))]
    assert findings_in({"findings": [item.as_dict() for item in given]}) == given
    assert findings_in({}) == []
