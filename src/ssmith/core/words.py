"""Numbers in sentences: one window, two windows, windows of 20 to 128 tokens."""

from __future__ import annotations


def number_of(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one.

    Args:
        number: how many, ≥ 0; thousands are set apart by commas.
        noun: in the singular; its plural ends in s.

    Returns:
        ``1 window``, ``2,048 windows``.
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(low: int, high: int) -> str:
    """Return a range in words, as one number where it holds no other.

    Args:
        low: its lower end.
        high: its upper end.

    Returns:
        ``20 to 128``, or ``128``.
    """
    return f"{low}" if low == high else f"{low} to {high}"
