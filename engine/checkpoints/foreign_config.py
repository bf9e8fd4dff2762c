"""The boundary to libraries that build things from a model's own configuration files, which may say anything."""

from contextlib import AbstractContextManager

from contract.errors import ModelProblem
from engine.errors import mapped

_LONGEST = 200  # characters of a library's message


def blame_config(problem: str, hint: str) -> AbstractContextManager[None]:
    """Turn every error of a library that reads a foreign configuration into a ModelProblem.

    Args:
        problem: The sentence's beginning, which the library's own message follows.
    Raises:
        ModelProblem: the library failed on the configuration.
    """

    def explain(error: Exception) -> Exception:
        if isinstance(error, MemoryError):
            return error
        return ModelProblem(f"{problem}: {str(error)[:_LONGEST]}", hint)

    return mapped(explain)
