"""The CPU kernels: C++ behind a plain C interface, loaded with ctypes where they were built."""

from ssmith.ops.native.loading import LEVELS, Library, force_level, library, why_missing

__all__ = ["LEVELS", "Library", "force_level", "library", "why_missing"]
