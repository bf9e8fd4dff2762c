"""The boundary to libraries that build things from a model's own configuration files, which may say anything."""

from collections.abc import Iterator
from contextlib import contextmanager

from contract.errors import ModelProblem, StudioError

_LONGEST = 200  # characters of a library's message


@contextmanager
def blame_config(problem: str, hint: str) -> Iterator[None]:
    """Turn every error of a library that reads a foreign configuration into a ModelProblem.

    Args:
        problem: The sentence's beginning, which the library's own message follows.
    Raises:
        ModelProblem: the library failed on the configuration.
    """
    try:
        yield
    except (StudioError, MemoryError):
        raise
    except Exception as error:
        raise ModelProblem(f"{problem}: {str(error)[:_LONGEST]}", hint) from None
