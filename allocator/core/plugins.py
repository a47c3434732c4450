"""Plug-ins are files: the name is the key, the constant `PLUGIN` the value."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from allocator.core.errors import SpecError, UnknownNameError


def available(package: str) -> tuple[str, ...]:
    """Names of the plug-ins in a package, without importing them."""
    path = import_module(package).__path__
    names = (found.name for found in pkgutil.iter_modules(path))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def load(package: str, name: str, kind: str = "plug-in") -> Any:
    """Import one plug-in and return its value.

    Raises:
        UnknownNameError: no file of that name; names the known ones.
        SpecError: the file has no constant `PLUGIN`.
    """
    if name not in available(package):
        raise UnknownNameError(kind, name, available(package))
    module = import_module(f"{package}.{name}")
    if not hasattr(module, "PLUGIN"):
        raise SpecError(f"{package}.{name} is no {kind}: it has no constant PLUGIN")
    return module.PLUGIN
