"""The page of watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssmith.dashboard.story import Story
from ssmith.dashboard.words import Words


@dataclass(frozen=True, kw_only=True)
class Watch:
    lead: Any


def read_watches(story: Story) -> list[Any]:
    return []


def page_of(story: Story, seen: list[Any], words: Words) -> Watch:
    return Watch(lead="…")
