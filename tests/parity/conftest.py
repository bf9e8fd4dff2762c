"""The same tiny models as for the engine's own tests, and what the stock pipelines leave to chance taken away."""

from collections.abc import Iterator

import pytest
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from tests.engine.conftest import (
    control_entries,
    engine,
    entries,
    make_recipe,
    make_work_item,
    models,
    one_thread,
    sd3_entries,
)

__all__ = [
    "control_entries",
    "engine",
    "entries",
    "make_recipe",
    "make_work_item",
    "models",
    "most_likely_latents",
    "one_thread",
    "sd3_entries",
]


@pytest.fixture(scope="module")
def most_likely_latents() -> Iterator[None]:
    """The stock pipelines draw a picture's latents from the VAE's narrow Gaussian; we take its middle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
        yield
