"""CFG rescale. Source: Lin et al. 2023 (arXiv 2305.08891), section 3.4, eq. 15 and 16."""

from dataclasses import dataclass, replace

from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction


@dataclass(frozen=True, slots=True)
class Rescale:
    """The guided prediction at the standard deviation of the prompt's own, for a share phi of it."""

    phi: float

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Rescale what guidance made, where there was any."""
        prediction = guide(evaluation)
        if prediction.uncond is None:
            return prediction
        x_cfg, dims = prediction.guided, tuple(range(1, prediction.guided.dim()))
        sigma_pos = prediction.cond.std(dim=dims, keepdim=True)
        sigma_cfg = x_cfg.std(dim=dims, keepdim=True)
        x_rescaled = x_cfg * (sigma_pos / sigma_cfg)
        return replace(prediction, guided=self.phi * x_rescaled + (1 - self.phi) * x_cfg)
