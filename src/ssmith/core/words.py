"""Numbers in sentences: one window, two windows, windows of 20 to 128 tokens."""

from __future__ import annotations


def number_of(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(low: int, high: int) -> str:
    """Return a range in words, as one number where it holds no other."""
    return f"{low}" if low == high else f"{low} to {high}"
