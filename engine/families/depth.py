"""The depth estimator that SD 2 depth checkpoints bring: MiDaS, as transformers has it."""

from torch import nn
from transformers import DPTConfig, DPTForDepthEstimation

from engine.families.family import Config


def build_estimator(config: Config) -> nn.Module:
    """From pictures (B, 3, 384, 384), -1..1, to `predicted_depth` (B, H, W), larger is nearer."""
    return DPTForDepthEstimation(DPTConfig.from_dict(dict(config)))
