"""Shared by the tests of every room."""

from helpers.typecheck import check

__all__ = ["check"]
