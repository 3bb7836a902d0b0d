"""Optional packages: imported on use, missed with the name of the extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from ssmith.core.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    ``extra`` installs it, and ``purpose`` says in the error what it is needed for.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{purpose} needs the package {package!r}, which is not installed",
            next_step=f"pip install 'ssmith[{extra}]'",
        ) from error
