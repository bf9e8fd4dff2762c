"""SD 1.x."""

from catalog.families import sd1
from engine.families.stable_diffusion import StableDiffusion

FAMILY = StableDiffusion(sd1.FAMILY)
