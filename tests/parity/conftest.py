"""The same tiny models as for the engine's own tests."""

from tests.engine.conftest import engine, entries, make_recipe, make_ticket, models, one_thread

__all__ = ["engine", "entries", "make_recipe", "make_ticket", "models", "one_thread"]
