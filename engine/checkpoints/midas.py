"""MiDaS, the depth estimator in SD 2 depth checkpoints: its tensor names as transformers' DPT, its configuration.

Source: Ranftl et al. 2021 (arXiv 2103.13413), "DPT-Hybrid"; names as in the authors' code and timm.
"""

import re
from collections.abc import Mapping
from typing import Any

from engine.checkpoints.infer_config import Shapes, count_children
from engine.weights.reading import TensorSlice

PREFIX = "depth_model.model."
_PATCH, _HEAD_CHANNELS, _LEVELS = 16, 64, 4
_BACKBONE = "dpt.embeddings.backbone.bit"
# The authors count from 1 (and the decoder backwards), transformers from 0.
_RULES: tuple[tuple[str, str], ...] = (
    (r"pretrained\.model\.cls_token$", "dpt.embeddings.cls_token"),
    (r"pretrained\.model\.pos_embed$", "dpt.embeddings.position_embeddings"),
    (r"pretrained\.model\.patch_embed\.proj\.", "dpt.embeddings.projection."),
    (r"pretrained\.model\.patch_embed\.backbone\.stem\.conv\.", f"{_BACKBONE}.embedder.convolution."),
    (r"pretrained\.model\.patch_embed\.backbone\.stem\.norm\.", f"{_BACKBONE}.embedder.norm."),
    (r"pretrained\.model\.patch_embed\.backbone\.stages\.(\d+)\.blocks\.", rf"{_BACKBONE}.encoder.stages.\1.layers."),
    (r"pretrained\.model\.blocks\.(\d+)\.norm1\.", r"dpt.encoder.layer.\1.layernorm_before."),
    (r"pretrained\.model\.blocks\.(\d+)\.norm2\.", r"dpt.encoder.layer.\1.layernorm_after."),
    (r"pretrained\.model\.blocks\.(\d+)\.attn\.qkv\.", r"dpt.encoder.layer.\1.attention.attention.qkv."),
    (r"pretrained\.model\.blocks\.(\d+)\.attn\.proj\.", r"dpt.encoder.layer.\1.attention.output.dense."),
    (r"pretrained\.model\.blocks\.(\d+)\.mlp\.fc1\.", r"dpt.encoder.layer.\1.intermediate.dense."),
    (r"pretrained\.model\.blocks\.(\d+)\.mlp\.fc2\.", r"dpt.encoder.layer.\1.output.dense."),
    (r"pretrained\.model\.norm\.", "dpt.layernorm."),
    (r"scratch\.output_conv\.", "head.head."),
    *(
        (rf"pretrained\.act_postprocess{level + 1}\.{number}\.", f"neck.reassemble_stage.{place}.")
        for level in range(_LEVELS)
        for number, place in (
            (r"0\.project\.0", f"readout_projects.{level}.0"),
            ("3", f"layers.{level}.projection"),
            ("4", f"layers.{level}.resize"),
        )
    ),
    *((rf"scratch\.layer{level + 1}_rn\.", f"neck.convs.{level}.") for level in range(_LEVELS)),
    *(
        (rf"scratch\.refinenet{_LEVELS - level}\.{theirs}\.", f"neck.fusion_stage.layers.{level}.{ours}.")
        for level in range(_LEVELS)
        for theirs, ours in (
            ("out_conv", "projection"),
            (r"resConfUnit(\d)\.conv(\d)", r"residual_layer\1.convolution\2"),
        )
    ),
)


def midas_slices(names: Mapping[str, object]) -> dict[str, TensorSlice]:
    """The depth estimator of a checkpoint; nothing where it has none. Leaves out its unused classifier."""
    found: dict[str, TensorSlice] = {}
    for name in names:
        rest = name.removeprefix(PREFIX)
        if rest == name or rest.startswith("pretrained.model.head."):
            continue
        new_name = rest
        for theirs, ours in _RULES:
            if re.match(theirs, rest):
                new_name = re.sub(theirs, ours, rest)
                break
        if ".attention.qkv." in new_name:
            for index, part in enumerate(("query", "key", "value")):
                found[new_name.replace("qkv", part)] = TensorSlice(name, share=(index, 3))
        else:
            found[new_name] = TensorSlice(name)
    return found


def midas_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of an estimator whose tensors have these (transformers') names and shapes."""
    width, channels = shapes["dpt.embeddings.projection.weight"][:2]
    side = round((shapes["dpt.embeddings.position_embeddings"][1] - 1) ** 0.5)
    layers = count_children(shapes, "dpt.encoder.layer.")
    stages = f"{_BACKBONE}.encoder.stages."
    depths, hidden_sizes = [], []
    for stage in range(count_children(shapes, stages)):
        depths.append(count_children(shapes, f"{stages}{stage}.layers."))
        hidden_sizes.append(shapes[f"{stages}{stage}.layers.0.conv3.weight"][0])
    return {
        "is_hybrid": True,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "image_size": side * _PATCH,
        "num_attention_heads": max(1, width // _HEAD_CHANNELS),
        "patch_size": _PATCH,
        "intermediate_size": shapes["dpt.encoder.layer.0.intermediate.dense.weight"][0],
        "backbone_out_indices": [layers * level // _LEVELS - 1 for level in range(1, _LEVELS + 1)],
        "readout_type": "project",
        "reassemble_factors": [1, 1, 1, 0.5],
        "neck_ignore_stages": [0, 1],
        "neck_hidden_sizes": [shapes[f"neck.convs.{level}.weight"][1] for level in range(_LEVELS)],
        "fusion_hidden_size": shapes["neck.convs.0.weight"][0],
        "use_batch_norm_in_fusion_residual": False,
        "backbone_featmap_shape": [1, channels, side, side],
        "backbone_config": {
            "model_type": "bit",
            "layer_type": "bottleneck",
            "global_padding": "same",
            "embedding_dynamic_padding": True,
            "embedding_size": shapes[f"{_BACKBONE}.embedder.convolution.weight"][0],
            "depths": depths,
            "hidden_sizes": hidden_sizes,
            "out_features": [f"stage{stage + 1}" for stage in range(len(depths))],
        },
    }
