"""SD 2.x: as SD 1.x, but for what the catalog declares."""

from catalog.families import sd2
from engine.families.stable_diffusion import StableDiffusion

FAMILY = StableDiffusion(sd2.FAMILY)
