"""The error tree: one root, each error also a builtin, each message with a cure."""

from __future__ import annotations

_LONGEST, _HEAD, _TAIL = 2000, 1200, 400


class SsmithError(Exception):
    """Root of every error ssmith raises on purpose.

    The message has three parts, so that a user can act without reading code:
    what was given, what is allowed, and the next step.

    Args:
        what: the problem, with the value that was given.
        allowed: what would have been accepted.
        next_step: what to do now.
    """

    exit_code = 2

    def __init__(self, what: str, *, allowed: str = "", next_step: str = "") -> None:
        self.what = _short(what)
        self.allowed = _short(allowed)
        self.next_step = next_step
        what, allowed = self.what, self.allowed
        parts = [what.rstrip(".")]
        if allowed:
            parts.append(f"allowed: {allowed.rstrip('.')}")
        if next_step:
            parts.append(f"next: {next_step.rstrip('.')}")
        whole = "; ".join(parts)
        super().__init__(whole if whole.endswith("?") else f"{whole}.")


def _short(text: str) -> str:
    """Return a text without its middle, where what was given is a book."""
    return text if len(text) <= _LONGEST else f"{text[:_HEAD]} … {text[-_TAIL:]}"


class InputError(SsmithError, ValueError):
    """An argument or a setting is outside what is allowed."""


class DataError(SsmithError, ValueError):
    """The user's data has the wrong shape, label count or non-finite values."""


class ModelError(SsmithError, ValueError):
    """A model is of an unknown kind, or its weights cannot be used."""


class PlanError(SsmithError, ValueError):
    """A plan does not fit the model it is applied to."""


class ArtefactError(SsmithError, OSError):
    """A saved file is truncated, foreign, tampered with or not a safe format."""


class OutputExistsError(SsmithError, FileExistsError):
    """The output is already there and may not be replaced silently."""


class UnsupportedError(SsmithError, NotImplementedError):
    """The operation is not defined for this model; the message names the alternative."""


class NumericalError(SsmithError, ArithmeticError):
    """A computation left the finite numbers; nothing was written."""


class EndpointError(SsmithError, ConnectionError):
    """A server does not answer, or not in the form that was asked for."""


class MissingExtraError(SsmithError, ImportError):
    """An optional package is needed; the message names the extra to install."""

    exit_code = 3
