"""FreeU, as diffusers has it. Source: Si et al. 2023 (arXiv 2309.11497), eq. 4 to 7."""

from dataclasses import dataclass
from typing import Any

from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction


@dataclass(frozen=True, slots=True)
class FreeU:
    """Factors of the two deepest decoder blocks: b of their backbone features, s of their skips' low frequencies."""

    b1: float
    b2: float
    s1: float
    s2: float
    unet: Any

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Evaluate with the factors, for all predictions."""
        self.unet.enable_freeu(self.s1, self.s2, self.b1, self.b2)
        try:
            return guide(evaluation)
        finally:
            self.unet.disable_freeu()
