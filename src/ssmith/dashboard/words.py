"""What pages say: sentences of one language as HTML, with every term linked to the glossary."""

from __future__ import annotations

import re
from typing import Any

from ssmith.core.optional import require
from ssmith.dashboard.glossary import TERMS
from ssmith.dashboard.language import Language
from ssmith.dashboard.retelling import retell

_TERM = re.compile(r"\[\[([\w-]+)\|([^\]]+)\]\]")


class Words:
    """Says things in one language on one page.

    A message links a term by ``[[term|as it stands in the sentence]]``.

    Args:
        language: the language.
        glossary: address of the glossary from the page.
    """

    def __init__(self, language: Language, glossary: str) -> None:
        self.language = language
        self.glossary = glossary
        self._markup: Any = require("markupsafe", extra="report", purpose="the dashboard").Markup

    def say(self, message: str) -> Any:
        """Return a message as HTML; the caller fills its ``{values}`` in, and they are escaped."""
        return self._linked(self.language.say(message))

    def many(self, one: str, several: str, count: int) -> Any:
        """Return a message that counts as HTML, with ``{count}`` filled in."""
        return self._linked(self.language.many(one, several, count))

    def term(self, key: str) -> Any:
        """Return the name of a term, linked."""
        return self._link(key, self.language.say(TERMS[key].name))

    def heading(self, key: str) -> str:
        """Return the name of a term as a heading begins."""
        name = self.language.say(TERMS[key].name)
        return name[:1].upper() + name[1:]

    def plain(self, message: str) -> str:
        """Return a message as text, for titles and what is read aloud."""
        return _TERM.sub(r"\2", self.language.say(message))

    def retold(self, text: str) -> Any:
        """Return what a program once said in English, in this language where it is known."""
        known = text if self.language.code == "en" else retell(self.language, text)
        if known is None:
            return self._markup('<span lang="en">{}</span>').format(text)
        return self._markup("<span>{}</span>").format(known)

    def _linked(self, message: str) -> Any:
        return self._markup(_TERM.sub(lambda match: self._link(match[1], match[2]), message))

    def _link(self, key: str, shown: str) -> Any:
        return self._markup('<a class="term" href="{}#{}">{}</a>').format(
            self.glossary, key, self._markup(shown)
        )
