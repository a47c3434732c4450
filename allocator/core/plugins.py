"""Plug-ins are files: the name is the key, the constant `PLUGIN` the value."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from allocator.core.errors import UnknownNameError


def available(package: str) -> tuple[str, ...]:
    """Names of the plug-ins in a package, without importing them."""
    path = import_module(package).__path__
    names = (found.name for found in pkgutil.iter_modules(path))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def load(package: str, name: str, kind: str = "plug-in") -> Any:
    """Import one plug-in and return its value.

    Raises:
        UnknownNameError: no file of that name; names the known ones.
    """
    if name not in available(package):
        raise UnknownNameError(kind, name, available(package))
    return import_module(f"{package}.{name}").PLUGIN
