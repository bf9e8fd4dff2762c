"""Tiny model folders on the disk: real headers, no weights worth the name."""

import json
import struct
from pathlib import Path

SHIPPED_LORAS = sorted(
    path.stem for path in (Path(__file__).resolve().parents[2] / "models" / "loras").glob("starter-*.safetensors")
)


def write_safetensors(path: Path, seed: int = 0) -> None:
    """A valid file of one four-byte tensor."""
    header = json.dumps({"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<I", seed))


def make_model(
    root: Path,
    name: str = "starter",
    *,
    title: str = "",
    words: tuple[str, ...] = (),
    defaults: dict[str, object] | None = None,
    seed: int = 0,
    zero_snr: bool = False,
) -> Path:
    """A folder that catalog.models.scan finds usable (sd1); its defaults are 4 steps of 64 × 64."""
    folder = root / name
    for part in ("unet", "vae", "text_encoder"):
        kind = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        write_safetensors(folder / part / f"{kind}.safetensors", seed)
    files = {
        "model_index.json": {"_class_name": "StableDiffusionPipeline"},
        "unet/config.json": {"in_channels": 4, "cross_attention_dim": 16},
        "vae/config.json": {},
        "text_encoder/config.json": {},
        "tokenizer/tokenizer_config.json": {},
        "scheduler/scheduler_config.json": {"rescale_betas_zero_snr": zero_snr},
        "darkroom.json": {
            "title": title or name.capitalize(),
            "sizes": {"square": [64, 64]},
            "defaults": {"steps": 4, "width": 64, "height": 64, **(defaults or {})},
        },
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(data))
    if words:
        (folder / "vocabulary.txt").write_text("\n".join(words))
    return folder


def make_controlnet(root: Path, name: str, *, family: str = "sd1") -> Path:
    """A folder that catalog.models.scan takes for a ControlNet."""
    folder = root / name
    config: dict[str, object] = {"_class_name": "ControlNetModel", "cross_attention_dim": 768}
    if family == "sdxl":
        config = {"_class_name": "ControlNetModel", "cross_attention_dim": 2048, "addition_embed_type": "text_time"}
    write_safetensors(folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def make_union(root: Path, name: str) -> Path:
    """A folder that catalog.models.scan takes for a union ControlNet of SD 1.x."""
    folder = make_controlnet(root, name)
    config = {"_class_name": "ControlNetUnionModel", "cross_attention_dim": 768, "num_control_type": 6}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def make_lora(folder: Path, name: str, *, width: int = 768, words: str = "") -> Path:
    """A LoRA file for a family told by the width of its prompts; `words`: its trigger words, in a side file."""
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    shapes = {f"{stem}.lora_down.weight": (2, width), f"{stem}.lora_up.weight": (640, 2)}
    header, end = {}, 0
    for tensor, shape in shapes.items():
        begin, end = end, end + 4 * shape[0] * shape[1]
        header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    if words:
        (folder / f"{name}.json").write_text(json.dumps({"activation text": words}))
    return folder / f"{name}.safetensors"
