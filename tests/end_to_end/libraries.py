"""All that a command may import, for processes that start with it in memory."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

# what is imported no sooner than when a model is loaded or a study opened; pytest is
# here because a process that is started from it imports its main module once more
LATE = (
    *("pytest", "shap", "sklearn.ensemble", "xgboost"),
    *("sqlalchemy.orm", "sqlalchemy.dialects.sqlite", "alembic.command"),
    "transformers.models.llava.modeling_llava",
    "transformers.models.llava.processing_llava",
    "transformers.models.clip.modeling_clip",
    "transformers.models.llama.modeling_llama",
)


def import_everything(package: str) -> None:
    """Import a package and all within it."""
    for module in iter_modules(import_module(package).__path__, f"{package}."):
        if module.ispkg:
            import_everything(module.name)
        elif not module.name.endswith(".__main__"):
            import_module(module.name)


for name in ("allocator", "quant", "evals", "surrogate"):
    import_everything(name)
for name in LATE:
    import_module(name)
