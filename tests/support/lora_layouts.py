"""Names and shapes of LoRAs in the forms that people train them, for full-size models."""

from collections.abc import Callable, Mapping

from tests.support.layouts import Shapes

Modules = Mapping[str, tuple[int, ...]]  # diffusers' name -> shape of the weight
_PLACES = {  # family -> (block, attentions, depth, size)
    "sd1": (
        ("down_blocks.0", 2, 1, 320),
        ("down_blocks.1", 2, 1, 640),
        ("down_blocks.2", 2, 1, 1280),
        ("mid_block", 1, 1, 1280),
        ("up_blocks.1", 3, 1, 1280),
        ("up_blocks.2", 3, 1, 640),
        ("up_blocks.3", 3, 1, 320),
    ),
    "sdxl": (
        ("down_blocks.1", 2, 2, 640),
        ("down_blocks.2", 2, 10, 1280),
        ("mid_block", 1, 10, 1280),
        ("up_blocks.0", 3, 10, 1280),
        ("up_blocks.1", 3, 2, 640),
    ),
    "sdxl_refiner": (("down_blocks.1", 2, 4, 768), ("down_blocks.2", 2, 4, 1536), ("mid_block", 1, 4, 1536)),
}
_WIDTHS = {"sd1": 768, "sd2": 1024, "sdxl": 2048, "sdxl_refiner": 1280}


def unet_modules(family: str, *, only: str = "", has_convolutions: bool = False) -> Modules:
    """The layers of a U-Net that LoRAs change. `only`: those whose name holds this."""
    found: dict[str, tuple[int, ...]] = {}
    for block, attentions, depth, size in _PLACES["sd1" if family == "sd2" else family]:
        for number in range(attentions):
            place = f"{block}.attentions.{number}"
            kernel = (1, 1) if family == "sd1" else ()
            found |= {f"{place}.proj_in": (size, size, *kernel), f"{place}.proj_out": (size, size, *kernel)}
            for inner in range(depth):
                inside = f"{place}.transformer_blocks.{inner}"
                for attention, taken in (("attn1", size), ("attn2", _WIDTHS[family])):
                    found |= {
                        f"{inside}.{attention}.to_q": (size, size),
                        f"{inside}.{attention}.to_k": (size, taken),
                        f"{inside}.{attention}.to_v": (size, taken),
                        f"{inside}.{attention}.to_out.0": (size, size),
                    }
                found |= {f"{inside}.ff.net.0.proj": (8 * size, size), f"{inside}.ff.net.2": (size, 4 * size)}
            if has_convolutions:
                found[f"{block}.resnets.{number}.conv1"] = (size, size, 3, 3)
    return {name: shape for name, shape in found.items() if only in name}


def text_modules(width: int, layers: int = 12) -> Modules:
    """The layers of a text encoder that LoRAs change."""
    return {
        f"text_model.encoder.layers.{number}.{part}": shape
        for number in range(layers)
        for part, shape in {
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (width, width),
            "self_attn.v_proj": (width, width),
            "self_attn.out_proj": (width, width),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items()
    }


def kohya(prefix: str, modules: Modules) -> Modules:
    """kohya's names for them."""
    return {prefix + name.replace(".", "_"): shape for name, shape in modules.items()}


def dotted(prefix: str, modules: Modules) -> Modules:
    return {prefix + name: shape for name, shape in modules.items()}


def down_up(
    modules: Modules,
    rank: int = 8,
    *,
    down: str = ".lora_down.weight",
    up: str = ".lora_up.weight",
    has_alpha: bool = True,
) -> Shapes:
    """Two factors a layer."""
    shapes: Shapes = {}
    for name, (out, taken, *kernel) in modules.items():
        shapes |= {name + down: (rank, taken, *kernel), name + up: (out, rank, *(1 for _ in kernel))}
        if has_alpha:
            shapes[f"{name}.alpha"] = ()
    return shapes


def peft(modules: Modules, infix: str = "") -> Shapes:
    """diffusers' and peft's names."""
    return down_up(modules, down=f".lora_A{infix}.weight", up=f".lora_B{infix}.weight", has_alpha=False)


def loha(modules: Modules, rank: int = 8) -> Shapes:
    shapes: Shapes = {}
    for name, (out, taken, *_) in modules.items():
        for part in ("hada_w1", "hada_w2"):
            shapes |= {f"{name}.{part}_a": (out, rank), f"{name}.{part}_b": (rank, taken)}
        shapes[f"{name}.alpha"] = ()
    return shapes


def lokr(modules: Modules, factor: int = 8, rank: int = 8) -> Shapes:
    shapes: Shapes = {}
    for name, (out, taken, *_) in modules.items():
        shapes |= {
            f"{name}.lokr_w1": (factor, factor),
            f"{name}.lokr_w2_a": (out // factor, rank),
            f"{name}.lokr_w2_b": (rank, taken // factor),
            f"{name}.alpha": (),
        }
    return shapes


def dora(modules: Modules) -> Shapes:
    return down_up(modules) | {f"{name}.dora_scale": (1, shape[1]) for name, shape in modules.items()}


def old_processors(modules: Modules) -> Shapes:
    """diffusers' first names: `attn1.processor.to_q_lora.down.weight`."""
    shapes: Shapes = {}
    for name, (out, taken, *_) in modules.items():
        place, _, part = name.removesuffix(".0").rpartition(".")
        shapes |= {
            f"{place}.processor.{part}_lora.down.weight": (4, taken),
            f"{place}.processor.{part}_lora.up.weight": (out, 4),
        }
    return shapes


def flux_modules(blocks: int = 19, singles: int = 38) -> Modules:
    """Flux's layers with diffusers' names."""
    size = 3072
    found: dict[str, tuple[int, ...]] = {}
    for number in range(blocks):
        for part in ("to_q", "to_k", "to_v", "add_q_proj", "to_out.0"):
            found[f"transformer_blocks.{number}.attn.{part}"] = (size, size)
        found[f"transformer_blocks.{number}.ff.net.0.proj"] = (4 * size, size)
    for number in range(singles):
        found[f"single_transformer_blocks.{number}.attn.to_q"] = (size, size)
        found[f"single_transformer_blocks.{number}.proj_mlp"] = (4 * size, size)
    return found


def joint_modules(size: int, blocks: int, *, more: Callable[[str], Modules] = lambda place: {}) -> Modules:
    """Those of a transformer that looks at words and picture together, with diffusers' names."""
    found: dict[str, tuple[int, ...]] = {}
    for number in range(blocks):
        place = f"transformer_blocks.{number}"
        found |= {f"{place}.attn.to_q": (size, size), f"{place}.attn.add_q_proj": (size, size), **more(place)}
    return found
