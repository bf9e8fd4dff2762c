"""FaceID: what an IP-Adapter for faces takes of a picture, and the LoRA inside its file.

The vector of a face is insightface's, a library that people install themselves; this is the boundary to it. It reads
only files that are here. Source: ip_adapter_faceid.py of tencent-ailab/IP-Adapter.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.embeddings import IPAdapterFaceIDPlusImageProjection
from PIL import Image
from torch import Tensor, nn

from catalog.detect.ip_adapters import FACE_PACK
from contract.errors import InvalidRecipe, ModelProblem
from engine.weights.named_tensors import NamedTensors

_DETECTION_SIDES = (640, 320, 160)  # a face that fills its picture is found at a smaller one
_CROP_SIDE = 224
_LORA = "_lora."


@dataclass(frozen=True, slots=True)
class Face:
    """The largest face of a picture: its vector of length 1, (512,), and the face upright, 224 pixels square."""

    vector: np.ndarray
    crop: Image.Image


def face_of(image: Image.Image, root: Path | None) -> Face:
    """Find the largest face of an RGB picture.

    Args:
        root: As of `catalog.detect.ip_adapters.face_root`.
    Raises:
        ModelProblem: the library or its files are missing.
        InvalidRecipe: there is no face.
    """
    try:
        app, align = (importlib.import_module(f"insightface.{name}") for name in ("app", "utils.face_align"))
    except ImportError:
        raise ModelProblem("insightface, which reads faces, is not installed.", "Install it beside Darkroom.") from None
    if root is None:
        raise ModelProblem(f"insightface's models “{FACE_PACK}” are not here.", "Put them into models/annotators/.")
    reader: Any = app.FaceAnalysis(
        name=FACE_PACK,
        root=str(root),
        allowed_modules=["detection", "recognition"],
        providers=["CPUExecutionProvider"],
    )
    pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])  # BGR
    for side in _DETECTION_SIDES:
        reader.prepare(ctx_id=-1, det_size=(side, side))
        faces = reader.get(pixels)
        if faces:
            face = max(faces, key=lambda one: (one.bbox[2] - one.bbox[0]) * (one.bbox[3] - one.bbox[1]))
            crop = align.norm_crop(pixels, landmark=face.kps, image_size=_CROP_SIDE)
            return Face(np.asarray(face.normed_embedding), Image.fromarray(np.ascontiguousarray(crop[:, :, ::-1])))
    raise InvalidRecipe(
        "No face is found in the picture.",
        "Use a picture in which a face is seen from the front.",
        field="ip_adapters.image",
    )


@torch.inference_mode()
def face_tokens(projection: Any, vector: Tensor, patches: Tensor | None, *, has_shortcut: bool) -> Tensor:
    """What attention takes of a face: (1, tokens, width).

    Args:
        projection: diffusers' FaceID projection, plain or plus.
        vector: (1, 512); zeros for none.
        patches: (1, n, width) of the image encoder, for plus.
        has_shortcut: Of plus, version 2: the vector's own tokens are added.
    """
    if isinstance(projection, IPAdapterFaceIDPlusImageProjection):
        assert patches is not None
        projection.clip_embeds = patches[:, None]
        projection.shortcut = has_shortcut
    tokens: Tensor = projection(vector)
    return tokens


def is_version_2(name: str) -> bool:
    """Whether a FaceID Plus is of version 2, whose file differs in nothing but its name."""
    return "plusv2" in name.lower().replace("-", "").replace("_", "").replace(" ", "")


def face_lora(tensors: Mapping[str, Tensor], unet: Any) -> nn.Module | None:
    """The LoRA inside a FaceID's file by the names of the U-Net's attentions; None where it has none.

    It numbers all attentions, in the order of `unet.attn_processors`.
    """
    holder = NamedTensors({})
    names = list(unet.attn_processors)
    for name, tensor in tensors.items():
        _, _, rest = name.partition("ip_adapter.")
        number, _, role = rest.partition(".")
        if _LORA in role and number.isdigit() and int(number) < len(names):
            holder.put(f"unet.{names[int(number)]}.{role}", tensor)
    return holder if holder.state_dict() else None
