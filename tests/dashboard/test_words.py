"""Catalogues are complete, keep every placeholder and term, and numbers and dates are right."""

import io
import re
from datetime import UTC, datetime
from importlib import resources

import pytest

from ssmith.core.errors import InputError
from ssmith.dashboard.glossary import TERMS
from ssmith.dashboard.language import LANGUAGES, Language

extract = pytest.importorskip("babel.messages.extract")
pofile = pytest.importorskip("babel.messages.pofile")

HOME = resources.files("ssmith.dashboard")
KEYWORDS = {"say": None, "plain": None, "missing": None, "mark": None, "many": (1, 2)}
HOLES = re.compile(r"\{\w+\}|\[\[[\w-]+\|")


def said():
    """Every message of the room."""
    found = {}
    for directory, method in ((HOME, "python"), (HOME / "templates", "jinja2.ext:babel_extract")):
        for file in directory.iterdir():
            if file.name.endswith((".py", ".j2")):
                content = io.BytesIO(file.read_bytes())
                for _, message, *_ in extract.extract(method, content, KEYWORDS):
                    found[message] = file.name
    return found


def catalogue(code):
    return pofile.read_po(io.BytesIO((HOME / "words" / f"{code}.po").read_bytes()), locale=code)


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_every_message_is_translated_and_none_is_left_over(code):
    translated = {message.id: message.string for message in catalogue(code) if message.id}
    assert {message for message in said() if not translated.get(message)} == set()
    assert set(translated) - set(said()) == set()


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_a_translation_keeps_placeholders_and_links(code):
    for message in catalogue(code):
        if message.id:
            several = message.id[-1] if isinstance(message.id, tuple) else message.id
            strings = message.string if isinstance(message.string, tuple) else (message.string,)
            for string in strings:
                extra = set(HOLES.findall(string)) - set(HOLES.findall(several))
                # A language that counts without a plural says the number also of one.
                assert extra <= {"{count}"}, message.id
                lost = set(HOLES.findall(several)) - set(HOLES.findall(string))
                assert not {item for item in lost if item.startswith("{")}, message.id


def test_every_term_that_is_linked_is_in_the_glossary():
    keys = {
        key
        for message in said()
        for part in (message if isinstance(message, tuple) else (message,))
        if part
        for key in re.findall(r"\[\[([\w-]+)\|", part)
    }
    assert keys
    assert keys <= set(TERMS)


def test_numbers_and_dates_are_written_as_readers_expect():
    english, japanese = Language("en"), Language("ja")
    moment = datetime(2026, 11, 1, 9, 5, tzinfo=UTC)
    assert english.day(moment) == "1 November 2026"
    assert japanese.day(moment) == "2026年11月1日"
    assert japanese.moment(moment) == "2026年11月1日 09:05 UTC"
    assert english.axis(moment, moment, years=True)(moment) == "09:05"
    later = datetime(2026, 12, 1, tzinfo=UTC)
    assert english.axis(moment, later, years=False)(moment) == "1 Nov"
    assert japanese.axis(moment, later, years=True)(moment) == "2026年11月1日"
    assert english.percent(0.983) == "98.3\u00a0%"
    assert japanese.percent(0.983) == "98.3%"
    assert english.times(6.44) == "6.4×"
    assert japanese.times(6.44) == "6.4倍"
    assert english.number(1234567) == "1,234,567"
    assert english.number(0.01234) == "0.0123"
    assert english.number(-0.5) == "−0.5"
    assert english.number(0) == "0"
    assert english.size(214_390) == "214\u00a0KB"
    assert english.seconds(0.00153) == "1.53\u00a0ms"
    assert english.points(-0.0028) == "−0.3"
    assert english.points(0.0001) == "0.0"
    assert english.money(1910, "EUR") == "€1,910"
    assert english.money(0.77, "EUR") == "€0.77"
    assert japanese.money(1910, "JPY") == "￥1,910"


def test_there_is_no_other_language():
    with pytest.raises(InputError, match="allowed: en, ja"):
        Language("fr")
