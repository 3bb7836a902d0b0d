"""One language of the dashboard: messages by gettext, numbers and dates by Babel."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from importlib import resources
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.optional import require

LANGUAGES = {"en": "en_GB", "ja": "ja"}
"""Code as users write it → locale."""
_PURPOSE = "the dashboard"
_FORMS = {
    "en": {
        "day": "d MMMM y",
        "short": "d MMM y",
        "moment": "d MMM y, HH:mm",
        "tick": "d MMM",
        "hour": "HH:mm",
        "percent": "\u00a0%",
        "times": "×",
    },
    "ja": {
        "day": "y年M月d日",
        "short": "y年M月d日",
        "moment": "y年M月d日 HH:mm",
        "tick": "M/d",
        "hour": "H:mm",
        "percent": "%",
        "times": "倍",
    },
}
"""Patterns of dates, and signs behind numbers."""
_BYTES = (("GB", 1e9), ("MB", 1e6), ("KB", 1e3))
_SECONDS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))


def mark(message: str) -> str:
    """Return a message as it is; catalogues take it up, and it is translated where it is shown."""
    return message


@dataclass(frozen=True)
class Language:
    """How one language says things.

    Args:
        code: a key of `LANGUAGES`.

    Raises:
        InputError: if there is no such language.
        MissingExtraError: if Babel is not installed.
    """

    code: str

    def __post_init__(self) -> None:
        if self.code not in LANGUAGES:
            raise InputError(f"language {self.code!r}", allowed=", ".join(LANGUAGES))

    @cached_property
    def _catalogue(self) -> Any:
        return _catalogue(self.code)

    def say(self, message: str) -> str:
        """Return a message; the caller fills its ``{values}`` in."""
        said: str = self._catalogue.gettext(message)
        return said

    def many(self, one: str, several: str, count: int) -> str:
        """Return a message that counts, with ``{count}`` filled in."""
        said: str = self._catalogue.ngettext(one, several, count)
        return said.replace("{count}", self.number(count, digits=9))

    def number(self, value: float, digits: int = 3) -> str:
        """Render with up to ``digits`` significant digits."""
        places = 0 if value == 0 else digits - 1 - math.floor(math.log10(abs(value)))
        pattern = f"#,##0.{'#' * max(places, 0)}" if places > 0 else "#,##0"
        return self._decimal(value, pattern)

    def percent(self, fraction: float, digits: int = 1) -> str:
        """Render a fraction in per cent."""
        sign = _FORMS[self.code]["percent"]
        return f"{self._decimal(100 * fraction, _fixed(digits))}{sign}"

    def points(self, fraction: float, digits: int = 1) -> str:
        """Render a difference of two shares, without its unit."""
        return signed(self._decimal(abs(100 * fraction), _fixed(digits)), fraction)

    def difference(self, value: float) -> str:
        """Render a difference with its sign."""
        return signed(self.number(abs(value)), value)

    def size(self, value: float) -> str:
        """Render bytes: 1 KB is 1000 bytes."""
        for unit, factor in _BYTES:
            if abs(value) >= factor:
                return f"{self.number(value / factor)}\u00a0{unit}"
        return f"{self.number(value)}\u00a0B"

    def seconds(self, value: float) -> str:
        """Render a duration of a computation."""
        unit, factor = next((item for item in _SECONDS if abs(value) >= item[1]), _SECONDS[-1])
        return f"{self.number(value / factor)}\u00a0{unit}"

    def times(self, ratio: float) -> str:
        """Render a factor."""
        shown = self._decimal(ratio, _fixed(1 if ratio < 9.95 else 0))
        return f"{shown}{_FORMS[self.code]['times']}"

    def money(self, value: float, currency: str) -> str:
        """Render an amount of money: without the small coins from ten on."""
        numbers = require("babel.numbers", extra="report", purpose=_PURPOSE)
        whole = abs(value) >= 10 or value == 0
        shown: str = numbers.format_currency(
            round(value) if whole else value,
            currency or "XXX",
            locale=self.locale,
            format="¤#,##0" if whole else None,
            currency_digits=not whole,
        )
        return shown.replace("-", "−")

    def day(self, moment: datetime) -> str:
        """Render a day, for a sentence."""
        return self._date(moment, "day")

    def short_day(self, moment: datetime) -> str:
        """Render a day, for a table or an axis."""
        return self._date(moment, "short")

    def axis(self, start: datetime, end: datetime, *, years: bool) -> Callable[[datetime], str]:
        """Return how moments stand at an axis: days, or hours of less than two days."""
        kind = "hour" if end - start < timedelta(days=2) else "short" if years else "tick"
        return lambda moment: self._date(moment, kind)

    def moment(self, moment: datetime) -> str:
        """Render a moment, in UTC."""
        return f"{self._date(moment, 'moment')} UTC"

    @property
    def locale(self) -> str:
        """The locale, as Babel names it."""
        return LANGUAGES[self.code]

    def _date(self, moment: datetime, kind: str) -> str:
        dates = require("babel.dates", extra="report", purpose=_PURPOSE)
        shown: str = dates.format_datetime(moment, _FORMS[self.code][kind], locale=self.locale)
        return shown

    def _decimal(self, value: float, pattern: str) -> str:
        numbers = require("babel.numbers", extra="report", purpose=_PURPOSE)
        shown: str = numbers.format_decimal(value, pattern, locale=self.locale)
        return shown.replace("-", "−")


def signed(shown: str, value: float) -> str:
    """Return a rendered amount with the sign of a value, none where zero is shown."""
    if not any(digit in "123456789" for digit in shown):
        return shown
    return f"{'+' if value > 0 else '−'}{shown}"


def _fixed(digits: int) -> str:
    return "#,##0" + ("." + "0" * digits if digits else "")


def _catalogue(code: str) -> Any:
    """Return the messages of a language; of English, those of the source itself."""
    support = require("babel.support", extra="report", purpose=_PURPOSE)
    if code == "en":
        return support.NullTranslations()
    po = require("babel.messages.pofile", extra="report", purpose=_PURPOSE)
    mo = require("babel.messages.mofile", extra="report", purpose=_PURPOSE)
    source = (resources.files("ssmith.dashboard") / "words" / f"{code}.po").read_bytes()
    compiled = io.BytesIO()
    mo.write_mo(compiled, po.read_po(io.BytesIO(source), locale=code))
    compiled.seek(0)
    return support.Translations(compiled)
