"""Optional packages: imported on use, missed with the name of the extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from ssmith.core.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: dotted module name, e.g. ``"matplotlib.pyplot"``.
        extra: the extra of this package that installs it.
        purpose: what the module is needed for, as it stands in the error.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: if the module is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{purpose} needs the package {package!r}, which is not installed",
            next_step=f"pip install 'ssmith[{extra}]'",
        ) from error
