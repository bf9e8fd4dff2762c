"""The depth estimator that comes with SD 2 depth checkpoints: MiDaS, by transformers."""

from torch import nn
from transformers import DPTConfig, DPTForDepthEstimation

from engine.checkpoints.component import Config


def build_estimator(config: Config) -> nn.Module:
    """Images (B, 3, 384, 384), -1..1 -> `predicted_depth` (B, H, W), larger is nearer."""
    module: nn.Module = DPTForDepthEstimation(DPTConfig.from_dict(dict(config)))
    return module
