"""What is installed here and what can be done with it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.table import Table

from allocator.bench.devices import describe_devices
from allocator.core.home import cache_home, data_home
from allocator.core.plugins import available
from allocator.embedded import embedded_models
from allocator.exporters import exporter_of, formats
from allocator.report.console import PlainConsole

if TYPE_CHECKING:
    from collections.abc import Mapping


PACKAGES = (
    *("allocate-vlm", "torch", "transformers", "optuna", "scikit-learn", "xgboost"),
    *("shap", "numpy", "safetensors", "pillow", "click", "rich"),
)
# optional packages, and what they are for
EXTRAS = {
    "auto_gptq": "independent check of GPTQ cells",
    "awq": "independent check of AWQ cells",
    "optuna_dashboard": "live dashboard of a study",
}


def examine() -> dict[str, Any]:
    """Versions, devices, plug-ins and folders, as plain data."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": {name: find_spec(name) is not None for name in EXTRAS},
        "devices": describe_devices(),
        "models": list(embedded_models()),
        "families": list(available("allocator.families")),
        "methods": list(available("quant.methods")),
        "tasks": list(available("evals.tasks")),
        "strategies": list(available("allocator.strategies")),
        "formats": {name: _format(name) for name in formats()},
        "data": str(data_home()),
        "cache": str(cache_home()),
    }


def _format(name: str) -> dict[str, str | None]:
    exporter = exporter_of(name)
    return {"writes": exporter.description, "loader": exporter.loader()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def print_examination(found: Mapping[str, Any]) -> None:
    """Print what `examine` found."""
    table = Table("what", "found here")
    table.add_row("python", found["python"])
    for name, number in found["packages"].items():
        table.add_row(name, number or "missing")
    for name, here in found["extras"].items():
        table.add_row(f"{name} ({EXTRAS[name]})", "yes" if here else "no")
    for name in ("devices", "models", "families", "methods", "tasks", "strategies"):
        table.add_row(name, ", ".join(found[name]))
    for name, each in found["formats"].items():
        loader = each["loader"] or "our own reader, its runtime is not installed"
        told = f"{each['writes']}; read again by {loader}"
        table.add_row(f"export --format {name}", told)
    table.add_row("studies in", found["data"])
    table.add_row("banks and data in", found["cache"])
    PlainConsole().print(table)
