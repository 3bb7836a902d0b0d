"""Whatever rules, gates, findings and checks can say is retold in every language of the pages."""

import ast
import io
import re
from importlib import resources

import pytest

import ssmith as sm
from helpers.said import HOLE, files, said_by, sentences
from ssmith.dashboard.language import LANGUAGES, Language
from ssmith.dashboard.overview import RULES
from ssmith.dashboard.retelling import retell
from ssmith.dashboard.versions import _card as page_of_card
from ssmith.dashboard.watches import KINDS

pofile = pytest.importorskip("babel.messages.pofile")
SPEAKERS = (
    ("Reason", "text"), ("Reason", "gate"), ("Finding", "message"), ("WatchFinding", "what"),
    ("Rule", "asked"), ("Rule", "found"), ("Fault", "text"),
)  # fmt: skip
OTHERS = [Language(code) for code in LANGUAGES if code != "en"]
_WORD = re.compile("[A-Za-z]{3,}")


def kept(language):
    """Words that translations themselves keep: names of flags, of methods, of files."""
    source = resources.files("ssmith.dashboard") / "words" / f"{language.code}.po"
    messages = pofile.read_po(io.BytesIO(source.read_bytes()), locale=language.code)
    said = " ".join(str(item.string) for item in messages if item.id)
    return set(_WORD.findall(re.sub(r"\{\w+\}", "", said)))


@pytest.fixture(scope="module", params=OTHERS, ids=lambda item: item.code)
def language(request):
    return request.param


@pytest.mark.parametrize(("speaker", "keyword"), SPEAKERS)
def test_every_sentence_is_retold(language, speaker, keyword):
    names, wrong, count = kept(language), {}, 0
    for place, text in said_by(speaker, keyword):
        filled = text.replace(HOLE, "7").strip()
        if not _WORD.search(filled):
            continue
        count += 1
        told = retell(language, filled)
        if told is None or set(_WORD.findall(told)) - names:
            wrong[text.replace(HOLE, "…")] = (place, told)
    assert wrong == {}
    assert count


@pytest.mark.parametrize(("speaker", "keyword", "names"), [
    ("Rule", "name", RULES), ("WatchFinding", "kind", KINDS),
])  # fmt: skip
def test_every_kind_has_a_name(speaker, keyword, names):
    found = {text for _, text in said_by(speaker, keyword) if HOLE not in text}
    assert found and found <= set(names)


def test_what_a_card_says_of_itself_is_retold(language, tmp_path):
    names, model = kept(language), sm.load("embedded:power-s4d")
    plan = sm.plan(model, sm.Budget(unit="state", sparsity=0.5, method="last"))
    facts = {"title": "Pruned state space model", "text": ["768 of 1536 state kept, by 7."]}
    sm.prune_(model, plan)
    sm.save(model, tmp_path / "out", parent=plan.model_digest, facts=facts)
    card = page_of_card(tmp_path / "out")
    said = [*card.paragraphs, *(name for name, _ in card.facts), *opens()]
    assert len(card.facts) > 6 and len(said) > 12
    assert {text for text in said if set(_WORD.findall(retell(language, text) or text)) - names} \
        == set()  # fmt: skip


def opens():
    """All that a card says of where a model opens."""
    (file,) = (item for item in files() if item.path.name == "portable.py")
    said = [node for node in ast.walk(file.tree) if isinstance(node, ast.Constant | ast.JoinedStr)]
    nodes = (node for node in said if not isinstance(file.above[node], ast.JoinedStr))
    found = {text.replace(HOLE, "7") for node in nodes for text in sentences(file, node)}
    return sorted(text for text in found if text.startswith(("yes; ", "no; ")))
