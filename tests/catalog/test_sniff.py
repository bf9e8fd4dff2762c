"""Every file is told by its header for what it is: full-size layouts of what people have, and what only looks alike."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from catalog.detect.sniff import sniff
from catalog.families.sniffed import Sniffed
from catalog.files.headers import TensorInfo
from tests.support import layouts
from tests.support import lora_layouts as loras
from tests.support.layouts import Shapes, below, checkpoint, tensors
from tests.support.lora_layouts import dotted, down_up, kohya, peft, text_modules, unet_modules

Told = tuple[str | None, str]
UNET = "model.diffusion_model."
Q = UNET + "input_blocks.4.1.transformer_blocks.0.attn1.to_q"


OTHERS = {
    "Hunyuan Video": ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "double_blocks.0.img_attn.qkv.weight"),
    "Chroma": ("distilled_guidance_layer.norms.0.scale", "double_blocks.0.img_attn.qkv.weight"),
    "Wan": ("head.modulation", "patch_embedding.weight"),
    "LTX": ("patchify_proj.weight", "adaln_single.linear.weight"),
    "Mochi": ("t5_yproj.weight",),
    "AuraFlow": ("double_layers.0.attn.w1q.weight",),
    "Hunyuan-DiT": ("mlp_t5.0.weight",),
    "Qwen-Image": ("txt_norm.weight", "transformer_blocks.0.attn.add_q_proj.weight"),
    "Stable Cascade": ("clip_txt_mapper.weight",),
    "PixArt": ("x_embedder.proj.weight", "t_block.1.weight", "y_embedder.y_proj.fc1.weight"),
    "Z-Image": ("cap_pad_token", "cap_embedder.1.weight"),
    "Flux 2": ("double_stream_modulation_img.lin.weight", "double_blocks.0.img_attn.qkv.weight"),
    "Stable Cascade (stage B)": ("clip_txt_pooled_mapper.weight", "effnet_mapper.0.weight"),
    "stage A": ("in_block.1.weight", "out_block.0.weight"),
    "HiDream": ("caption_projection.0.linear.weight", "double_stream_blocks.0.block.attn1.to_q.weight"),
    "Kolors": ("encoder_hid_proj.weight", "conv_in.weight", "add_embedding.linear_1.weight"),
    "DeepFloyd IF": ("encoder_hid_proj.weight", "conv_in.weight", "encoder_hid_proj.bias"),
    "Lumina 2": ("cap_embedder.1.weight", "context_refiner.0.attention.qkv.weight"),
}


class Case(NamedTuple):
    """A layout, and what has to be told of it: kind, family, further fields; whether it can be used."""

    make: Callable[[], Shapes]
    told: Told
    fields: Mapping[str, object] = {}
    words: str = ""  # of the problem; "" means that there is none
    metadata: Mapping[str, str] = {}


def sd3_file(name: str) -> Callable[[], Shapes]:
    """As published: a transformer and a VAE."""

    def make() -> Shapes:
        transformer = layouts.sd3_transformer(**layouts.SD3[name])  # type: ignore[arg-type]
        return below(UNET, transformer) | below("first_stage_model.", layouts.ldm_vae(16, has_quant=False))

    return make


def plus(shapes: Shapes, *names: str, shape: tuple[int, ...] = (0,)) -> Shapes:
    return shapes | dict.fromkeys(names, shape)


def lora(family: str, text: tuple[tuple[str, int, int], ...] = ()) -> Shapes:
    """kohya's, with text encoders."""
    shapes = down_up(kohya("lora_unet_", unet_modules(family)))
    for prefix, width, layers in text:
        shapes |= down_up(kohya(prefix, text_modules(width, layers)))
    return shapes


def ldm_named(modules: loras.Modules) -> loras.Modules:
    """SDXL's as sd-scripts names them: by the first programs' numbers."""
    places = {
        "down_blocks.1.attentions.0": "input_blocks.4.1",
        "down_blocks.2.attentions.1": "input_blocks.8.1",
        "mid_block.attentions.0": "middle_block.1",
        "up_blocks.0.attentions.2": "output_blocks.2.1",
    }
    return {
        name.replace(ours, theirs): shape
        for name, shape in modules.items()
        for ours, theirs in places.items()
        if name.startswith(ours)
    }


def ip_adapter(width: int, layers: int, kind: str = "plain", **more: tuple[int, ...]) -> Shapes:
    plain: Shapes = {"image_proj.proj.weight": (4 * width, 1024), "image_proj.norm.weight": (width,)}
    shapes: Shapes = {**(plain if kind else {}), **more}
    for number in range(layers):
        shapes |= {
            f"ip_adapter.{2 * number + 1}.to_k_ip.weight": (320, width),
            f"ip_adapter.{2 * number + 1}.to_v_ip.weight": (320, width),
        }
    return shapes


def diffusers_controlnet(width: int, *, is_xl: bool = False, **more: tuple[int, ...]) -> Shapes:
    shapes: Shapes = {
        "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
        "conv_in.weight": (320, 4, 3, 3),
        "controlnet_down_blocks.0.weight": (320, 320, 1, 1),
        **more,
    }
    for name, shape in unet_modules("sdxl" if is_xl else "sd1").items():
        shapes[f"{name}.weight"] = shape if "attn2.to_k" not in name else (shape[0], width)
    return shapes | ({"add_embedding.linear_1.weight": (1280, 2816)} if is_xl else {})


def t2i(place: str, first: int) -> Shapes:
    inner = f"{place}body.0.resnets.0" if place else "body.0"
    return {
        f"{place}conv_in.weight": (320, first, 3, 3),
        f"{inner}.block1.weight": (320, 320, 3, 3),
        f"{inner}.block2.weight": (320, 320, 1, 1),
    }


def diffusers_unet() -> Shapes:
    shapes: Shapes = {"conv_in.weight": (320, 4, 3, 3), "time_embedding.linear_1.weight": (1280, 320)}
    return shapes | {f"{name}.weight": shape for name, shape in unet_modules("sd1").items()}


def rrdb() -> Shapes:
    return {"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)}


def hypernetwork(*widths: int) -> Shapes:
    return {
        f"{width}.{side}.linear.{number}.{part}": (2 * width, width) if part == "weight" else (2 * width,)
        for width in widths
        for side in (0, 1)
        for number in (0, 2)
        for part in ("weight", "bias")
    }


CASES: dict[str, Case] = {
    # Checkpoints
    "sd1": Case(lambda: checkpoint("sd1"), ("checkpoint", "sd1"), {"variant": "text", "prediction": ""}),
    "sd1 with ema": Case(
        lambda: checkpoint("sd1") | below("model_ema.", {"decay": (), "num_updates": ()}), ("checkpoint", "sd1")
    ),
    "sd1 inpaint": Case(lambda: checkpoint("sd1", 9), ("checkpoint", "sd1"), {"variant": "inpaint"}),
    "instruct pix2pix": Case(lambda: checkpoint("sd1", 8), ("checkpoint", "sd1"), {"variant": "edit"}),
    "sd2 base, told by modelspec": Case(
        lambda: checkpoint("sd2"),
        ("checkpoint", "sd2"),
        {"prediction": "epsilon"},
        metadata={"modelspec.architecture": "stable-diffusion-v2-512"},
    ),
    "sd2 768-v": Case(
        lambda: checkpoint("sd2"),
        ("checkpoint", "sd2"),
        {"prediction": "v_prediction"},
        metadata={"modelspec.architecture": "stable-diffusion-v2-768-v"},
    ),
    "sd2 that doesn't say": Case(lambda: checkpoint("sd2"), ("checkpoint", "sd2"), {"prediction": ""}),
    "sd2 inpaint": Case(lambda: checkpoint("sd2", 9), ("checkpoint", "sd2"), {"variant": "inpaint"}),
    "sd2 depth": Case(
        lambda: plus(checkpoint("sd2", 5), "depth_model.model.scratch.layer1_rn.weight"),
        ("checkpoint", "sd2"),
        {"variant": "depth"},
    ),
    "sdxl": Case(lambda: checkpoint("sdxl"), ("checkpoint", "sdxl"), {"variant": "text", "zero_snr": False}),
    "sdxl inpaint": Case(lambda: checkpoint("sdxl", 9), ("checkpoint", "sdxl"), {"variant": "inpaint"}),
    "sdxl edit": Case(lambda: checkpoint("sdxl", 8), ("checkpoint", "sdxl"), {"variant": "edit"}),
    "sdxl v-prediction": Case(
        lambda: plus(checkpoint("sdxl"), "v_pred", "ztsnr"),
        ("checkpoint", "sdxl"),
        {"prediction": "v_prediction", "zero_snr": True},
    ),
    "sdxl v-prediction, by sd-scripts": Case(
        lambda: checkpoint("sdxl"),
        ("checkpoint", "sdxl"),
        {"prediction": "v_prediction", "zero_snr": True},
        metadata={"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"},
    ),
    "sd1 without a vae": Case(lambda: checkpoint("sd1", has_vae=False), ("checkpoint", "sd1"), {"has_vae": False}),
    "sdxl unet alone": Case(
        lambda: checkpoint("sdxl", has_vae=False, has_text=False),
        ("checkpoint", "sdxl"),
        {"has_vae": False, "has_encoders": False},
    ),
    "sd1 unet alone": Case(
        lambda: checkpoint("sd1", has_vae=False, has_text=False),
        ("checkpoint", "sd1"),
        {"has_vae": False, "has_encoders": False},
    ),
    "sd2 unet alone": Case(
        lambda: checkpoint("sd2", has_vae=False, has_text=False),
        ("checkpoint", "sd2"),
        {"has_vae": False, "has_encoders": False},
    ),
    "sd1 without its text encoder": Case(
        lambda: checkpoint("sd1", has_text=False), ("checkpoint", "sd1"), {"has_vae": True, "has_encoders": False}
    ),
    "sdxl refiner": Case(lambda: checkpoint("sdxl_refiner"), ("checkpoint", "sdxl_refiner")),
    "sd3 medium": Case(sd3_file("SD 3"), ("checkpoint", "sd3"), {"detail": "SD 3", "has_vae": True}),
    "sd3.5 medium": Case(sd3_file("SD 3.5 medium"), ("checkpoint", "sd3"), {"detail": "SD 3.5 medium"}),
    "sd3.5 large": Case(sd3_file("SD 3.5 large"), ("checkpoint", "sd3"), {"detail": "SD 3.5 large"}),
    "sd3.5 large turbo": Case(
        sd3_file("SD 3.5 large"),
        ("checkpoint", "sd3"),
        {"detail": "SD 3.5 large turbo"},
        metadata={"modelspec.title": "Stable Diffusion 3.5 Large Turbo"},
    ),
    "sd3.5 large, bare": Case(
        lambda: layouts.sd3_transformer(38, 2432, is_35=True),
        ("checkpoint", "sd3"),
        {"detail": "SD 3.5 large", "has_vae": False},
    ),
    "flux dev": Case(layouts.flux_transformer, ("checkpoint", "flux"), {"detail": "Flux dev"}, "Flux dev"),
    "flux fill": Case(
        lambda: layouts.flux_transformer() | {"img_in.weight": (3072, 384)},
        ("checkpoint", "flux"),
        {"detail": "Flux Fill"},
        "Flux Fill",
    ),
    "flux depth": Case(
        lambda: layouts.flux_transformer() | {"img_in.weight": (3072, 128)}, ("checkpoint", "flux"), words="Depth"
    ),
    "flux schnell, in a checkpoint": Case(
        lambda: below(UNET, layouts.flux_transformer(has_guidance=False)) | below("vae.", layouts.ldm_vae(16, False)),
        ("checkpoint", "flux"),
        {"detail": "Flux schnell"},
        "can't run",
    ),
    "unet by diffusers": Case(
        lambda: diffusers_unet(), ("checkpoint", "sd1"), {"detail": "U-Net", "has_vae": False, "has_encoders": False}
    ),
    "averaged weights alone": Case(
        lambda: {"model_ema.diffusion_modelinput_blocks00weight": (320, 4, 3, 3), "model_ema.decay": ()},
        ("checkpoint", "unknown"),
        words="averaged (EMA) weights alone",
    ),
    "sdxl unet, bare": Case(
        lambda: layouts.ldm_unet(**layouts.SDXL),  # type: ignore[arg-type]
        ("checkpoint", "sdxl"),
        {"detail": "U-Net", "variant": "text", "has_vae": False, "has_encoders": False},
    ),
    "sd1 inpainting unet, bare": Case(
        lambda: layouts.ldm_unet(9, **layouts.SD1),  # type: ignore[arg-type]
        ("checkpoint", "sd1"),
        {"variant": "inpaint", "has_encoders": False},
    ),
    "sdxl v-prediction unet, bare": Case(
        lambda: plus(layouts.ldm_unet(**layouts.SDXL), "v_pred", "ztsnr"),  # type: ignore[arg-type]
        ("checkpoint", "sdxl"),
        {"prediction": "v_prediction", "zero_snr": True},
    ),
    # What looks like a checkpoint of ours
    "chroma": Case(
        lambda: {
            name: shape
            for name, shape in layouts.flux_transformer().items()
            if not name.startswith(("vector_in", "guidance_in"))
        },
        ("checkpoint", "unknown"),
        words="built like Flux",
    ),
    "audioldm": Case(
        lambda: (
            below(UNET, layouts.ldm_unet(8, base=128, width=128))
            | below("first_stage_model.", layouts.ldm_vae(8))
            | {"cond_stage_model.model.text_branch.embeddings.word_embeddings.weight": (50265, 768)}
        ),
        ("checkpoint", "sd1"),
        {"has_encoders": False},
    ),
    "a unet of other widths": Case(
        lambda: diffusers_unet() | {"conv_in.weight": (128, 8, 3, 3)}, ("checkpoint", "unknown"), words="U-Net alone"
    ),
    "sd2 unclip": Case(
        lambda: (
            below(UNET, layouts.ldm_unet(**layouts.SD2, labels=2048))  # type: ignore[arg-type]
            | below("cond_stage_model.model.", layouts.open_clip_text())
        ),
        ("checkpoint", "unknown"),
        words="unCLIP",
    ),
    "sd x4 upscaler": Case(
        lambda: plus(checkpoint("sd2", 7), f"{UNET}label_emb.weight", shape=(1000, 1024)),
        ("checkpoint", "unknown"),
        words="upscaling",
    ),
    "7 channels": Case(lambda: checkpoint("sd1", 7), ("checkpoint", "unknown"), words="7 channels"),
    "zero123": Case(
        lambda: plus(checkpoint("sd1", 8), "cc_projection.weight", shape=(768, 772)),
        ("checkpoint", "unknown"),
        words="Zero123",
    ),
    "svd video": Case(
        lambda: plus(checkpoint("sdxl", 8), f"{UNET}input_blocks.1.0.time_stack.in_layers.0.weight"),
        ("checkpoint", "unknown"),
        words="video",
    ),
    "another diffusion model": Case(
        lambda: {f"{UNET}blocks.0.self_attn.q.weight": (5120, 5120)}, ("checkpoint", "unknown"), words="not known"
    ),
    "playground 2.5": Case(
        lambda: plus(checkpoint("sdxl"), "edm_mean", "edm_std", shape=(1, 4, 1, 1)),
        ("checkpoint", "sdxl"),
        {"prediction": "edm", "zero_snr": False, "detail": "EDM"},
    ),
    "playground 2.5 that is not whole": Case(
        lambda: plus(checkpoint("sdxl"), "edm_mean", shape=(1, 4, 1, 1)), ("checkpoint", "sdxl"), words="edm_std"
    ),
    "playground 2.5 with statistics of other latents": Case(
        lambda: plus(checkpoint("sdxl"), "edm_mean", "edm_std", shape=(16,)), ("checkpoint", "sdxl"), words="4 numbers"
    ),
    "playground 2.5 without a vae": Case(
        lambda: plus(checkpoint("sdxl", has_vae=False), "edm_mean", "edm_std", shape=(4,)),
        ("checkpoint", "sdxl"),
        words="no VAE inside",
    ),
    "cosxl": Case(
        lambda: plus(checkpoint("sdxl"), "edm_vpred.sigma_max", "edm_vpred.sigma_min", shape=()),
        ("checkpoint", "sdxl"),
        {"prediction": "edm_v"},
    ),
    "cosxl edit": Case(
        lambda: plus(checkpoint("sdxl", 8), "edm_vpred.sigma_max", "edm_vpred.sigma_min", shape=()),
        ("checkpoint", "sdxl"),
        {"prediction": "edm_v", "variant": "edit"},
    ),
    "sdxl with a vae's statistics under another name": Case(
        lambda: plus(checkpoint("sdxl"), "first_stage_model.edm_mean", "first_stage_model.edm_std", shape=(4,)),
        ("checkpoint", "sdxl"),
        {"prediction": "", "detail": ""},
    ),
    "sdxl in scaled fp8": Case(
        lambda: plus(checkpoint("sdxl"), UNET + "scaled_fp8", f"{Q}.scale_input") | {f"{Q}.scale_weight": ()},
        ("checkpoint", "sdxl"),
    ),
    "sdxl in fp8 of comfy_quant": Case(
        lambda: plus(checkpoint("sdxl"), f"{Q}.comfy_quant") | {f"{Q}.weight_scale": (1,)}, ("checkpoint", "sdxl")
    ),
    "sdxl in 4 bits of a kind that is not said": Case(
        lambda: plus(checkpoint("sdxl"), f"{Q}.weight.absmax", f"{Q}.weight.quant_map"),
        ("checkpoint", "sdxl"),
        words="4-bit (bitsandbytes)",
    ),
    "sdxl in 8 bits": Case(
        lambda: plus(checkpoint("sdxl"), f"{Q}.SCB"), ("checkpoint", "sdxl"), words="8-bit integers"
    ),
    "sdxl by gptq": Case(
        lambda: plus(checkpoint("sdxl"), f"{Q}.qweight", f"{Q}.qzeros", f"{Q}.g_idx"),
        ("checkpoint", "sdxl"),
        words="GPTQ",
    ),
    "sdxl by awq": Case(
        lambda: plus(checkpoint("sdxl"), f"{Q}.qweight", f"{Q}.qzeros"), ("checkpoint", "sdxl"), words="AWQ"
    ),
    "sdxl by nunchaku": Case(
        lambda: plus(checkpoint("sdxl"), f"{Q}.qweight", f"{Q}.wscales", f"{Q}.smooth_factor"),
        ("checkpoint", "sdxl"),
        words="SVDQuant",
    ),
    "sdxl in nvfp4": Case(
        lambda: plus(checkpoint("sdxl"), f"{Q}.weight_scale_2"), ("checkpoint", "sdxl"), words="NVFP4"
    ),
    "sdxl scaled in blocks": Case(
        lambda: plus(checkpoint("sdxl"), f"{Q}.weight_scale", shape=(40, 20)), ("checkpoint", "sdxl"), words="blocks"
    ),
    "lora in scaled fp8": Case(lambda: plus(lora("sd1"), "scaled_fp8"), ("lora", "sd1")),
    **{
        f"{label} {number}": Case(
            lambda prefix=prefix, names=names: plus({}, *(prefix + name for name in names)),
            ("checkpoint", "unknown"),
            words=label,
        )
        for label, names in OTHERS.items()
        for number, prefix in enumerate(("", "model.diffusion_model."))
    },
    # LoRAs
    "lora sd1 kohya": Case(lambda: lora("sd1", (("lora_te_", 768, 12),)), ("lora", "sd1"), {"detail": "LoRA"}),
    "lora sd2 kohya": Case(lambda: lora("sd2", (("lora_te_", 1024, 23),)), ("lora", "sd2")),
    "lora sdxl kohya": Case(lambda: lora("sdxl", (("lora_te1_", 768, 12), ("lora_te2_", 1280, 32))), ("lora", "sdxl")),
    "lora sdxl, first programs' names": Case(
        lambda: down_up(kohya("lora_unet_", ldm_named(unet_modules("sdxl")))), ("lora", "sdxl")
    ),
    "lora sdxl refiner": Case(lambda: lora("sdxl_refiner"), ("lora", "sdxl_refiner")),
    "lora sd1 diffusers": Case(lambda: peft(dotted("unet.", unet_modules("sd1", only="attn"))), ("lora", "sd1")),
    "lora sdxl diffusers": Case(
        lambda: (
            peft(dotted("unet.", unet_modules("sdxl", only="attn")))
            | peft(dotted("text_encoder_2.", text_modules(1280, 32)))
        ),
        ("lora", "sdxl"),
    ),
    "lora sd1 peft": Case(lambda: peft(dotted("base_model.model.", unet_modules("sd1", only="attn"))), ("lora", "sd1")),
    "lora sd2 peft, with the adapter's name": Case(
        lambda: peft(dotted("base_model.model.", unet_modules("sd2", only="attn2")), ".default"), ("lora", "sd2")
    ),
    "lora sd1, diffusers' first names": Case(
        lambda: loras.old_processors(unet_modules("sd1", only="attn")), ("lora", "sd1")
    ),
    "lora of a text encoder": Case(lambda: down_up(kohya("lora_te_", text_modules(768))), ("lora", "sd1")),
    "lora of a text encoder, diffusers": Case(
        lambda: down_up(
            dotted("text_encoder.", text_modules(1024, 23)),
            down=".lora_linear_layer.down.weight",
            up=".lora_linear_layer.up.weight",
            has_alpha=False,
        ),
        ("lora", "sd2"),
    ),
    "lora of the first of two text encoders": Case(
        lambda: down_up(kohya("lora_te1_", text_modules(768))), ("lora", "unknown")
    ),
    "loha of proj_in alone": Case(
        lambda: loras.loha(kohya("lora_unet_", unet_modules("sd1", only="proj_in"))),
        ("lora", "unknown"),
        {"detail": "LoHa"},
    ),
    "lora of self-attentions, told by metadata": Case(
        lambda: down_up(kohya("lora_unet_", unet_modules("sd1", only="attn1"))),
        ("lora", "sd1"),
        metadata={"ss_base_model_version": "sd_v1"},
    ),
    "lora of self-attentions, untold": Case(
        lambda: down_up(kohya("lora_unet_", unet_modules("sd1", only="attn1"))), ("lora", "unknown")
    ),
    "locon sd1": Case(
        lambda: down_up(kohya("lora_unet_", unet_modules("sd1", has_convolutions=True))),
        ("lora", "sd1"),
        {"detail": "LoCon"},
    ),
    "loha sd1": Case(lambda: loras.loha(kohya("lora_unet_", unet_modules("sd1"))), ("lora", "sd1"), {"detail": "LoHa"}),
    "loha sdxl": Case(
        lambda: loras.loha(kohya("lora_unet_", unet_modules("sdxl"))), ("lora", "sdxl"), {"detail": "LoHa"}
    ),
    "lokr sdxl": Case(
        lambda: loras.lokr(kohya("lora_unet_", unet_modules("sdxl"))), ("lora", "sdxl"), {"detail": "LoKr"}
    ),
    "lokr sd2": Case(lambda: loras.lokr(kohya("lora_unet_", unet_modules("sd2"))), ("lora", "sd2"), {"detail": "LoKr"}),
    "dora sdxl": Case(
        lambda: loras.dora(kohya("lora_unet_", unet_modules("sdxl"))), ("lora", "sdxl"), {"detail": "DoRA"}
    ),
    "oft sdxl": Case(
        lambda: {f"lora_unet_{name.replace('.', '_')}.oft_blocks": (4, 160, 160) for name in unet_modules("sdxl")},
        ("lora", "sdxl"),
        {"detail": "OFT"},
    ),
    "oft sd3": Case(
        lambda: {
            f"lora_unet_{name.replace('.', '_')}.oft_blocks": (4, 384, 384) for name in loras.joint_modules(1536, 24)
        },
        ("lora", "sd3"),
        {"detail": "OFT"},
    ),
    "oft flux": Case(
        lambda: {f"lora_unet_{name.replace('.', '_')}.oft_blocks": (4, 768, 768) for name in loras.flux_modules()},
        ("lora", "flux"),
        words="for Flux",
    ),
    "boft sdxl of peft": Case(
        lambda: {
            **{f"unet.{name}.boft_R": (1, taken // 4, 4, 4) for name, (_, taken, *_) in unet_modules("sdxl").items()},
            **{f"unet.{name}.boft_s": (made, 1) for name, (made, *_) in unet_modules("sdxl").items()},
        },
        ("lora", "sdxl"),
        {"detail": "BOFT"},
    ),
    "lora flux kohya": Case(
        lambda: down_up(
            {
                "lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072),
                "lora_unet_single_blocks_37_linear1": (21504, 3072),
            }
        ),
        ("lora", "flux"),
        words="for Flux",
    ),
    "lora flux diffusers": Case(
        lambda: peft(dotted("transformer.", loras.flux_modules())), ("lora", "flux"), words="for Flux"
    ),
    "lora flux, double blocks alone": Case(
        lambda: peft(dotted("transformer.", loras.flux_modules(19, 0))), ("lora", "flux"), words="for Flux"
    ),
    "lora flux xlabs": Case(
        lambda: {
            "double_blocks.0.processor.qkv_lora1.down.weight": (16, 3072),
            "double_blocks.0.processor.qkv_lora1.up.weight": (9216, 16),
        },
        ("lora", "flux"),
        words="for Flux",
    ),
    "lora sd3 kohya": Case(
        lambda: down_up({"lora_unet_joint_blocks_0_context_block_attn_qkv": (4608, 1536)}),
        ("lora", "sd3"),
    ),
    "lora sd3 diffusers": Case(lambda: peft(dotted("transformer.", loras.joint_modules(1536, 24))), ("lora", "sd3")),
    # What looks like a LoRA of ours
    "lora of qwen": Case(
        lambda: peft(
            dotted(
                "transformer.",
                loras.joint_modules(3072, 60, more=lambda place: {f"{place}.img_mlp.net.0.proj": (12288, 3072)}),
            )
        ),
        ("lora", "unknown"),
        words="not known",
    ),
    "lora of wan": Case(
        lambda: peft(
            {
                "diffusion_model.blocks.0.self_attn.q": (5120, 5120),
                "diffusion_model.blocks.0.cross_attn.k": (5120, 5120),
            }
        ),
        ("lora", "unknown"),
        words="not known",
    ),
    "lora of pixart": Case(
        lambda: peft({"transformer.transformer_blocks.0.attn1.to_q": (1152, 1152)}),
        ("lora", "unknown"),
        words="not known",
    ),
    "motion lora": Case(
        lambda: down_up(
            {
                "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0"
                ".attention_blocks.0.processor.to_q": (320, 320)
            },
            down="_lora.down.weight",
            up="_lora.up.weight",
            has_alpha=False,
        ),
        ("lora", "unknown"),
    ),
    # VAEs
    "vae": Case(layouts.ldm_vae, ("vae", "sd")),
    "vae with its place": Case(lambda: below("first_stage_model.", layouts.ldm_vae()), ("vae", "sd")),
    "vae diffusers": Case(
        lambda: {
            "encoder.conv_in.weight": (128, 3, 3, 3),
            "decoder.conv_in.weight": (512, 4, 3, 3),
            "encoder.down_blocks.0.resnets.0.conv1.weight": (128, 128, 3, 3),
            "quant_conv.weight": (8, 8, 1, 1),
        },
        ("vae", "sd"),
    ),
    "vae of sd3 or flux": Case(
        lambda: layouts.ldm_vae(16, has_quant=False), ("vae", "sd3"), {"detail": "for SD 3 or Flux"}
    ),
    "vae of a video model": Case(
        lambda: plus(layouts.ldm_vae(), "decoder.time_conv_out.weight", shape=(3, 3, 3, 1, 1)), (None, "unknown")
    ),
    "vae that takes a mask": Case(
        lambda: plus(layouts.ldm_vae(), "decoder.condition_encoder.layers.0.weight", shape=(64, 3, 3, 3)),
        (None, "unknown"),
    ),
    "vae of 32 channels": Case(lambda: layouts.ldm_vae(32), ("vae", "unknown"), words="32 latent channels"),
    "vq autoencoder": Case(
        lambda: plus(layouts.ldm_vae(3), "quantize.embedding.weight", shape=(8192, 3)), (None, "unknown")
    ),
    "video vae": Case(
        lambda: {"encoder.conv_in.weight": (96, 3, 3, 3, 3), "decoder.conv_in.weight": (384, 16, 3, 3, 3)},
        (None, "unknown"),
    ),
    "tiny vae": Case(
        lambda: {"encoder.layers.0.weight": (64, 3, 3, 3), "decoder.layers.1.weight": (64, 4, 3, 3)}, (None, "unknown")
    ),
    # Controls
    "controlnet sd1": Case(lambda: below("control_model.", layouts.ldm_unet(is_control=True)), ("controlnet", "sd1")),
    "controlnet sd2": Case(
        lambda: below("control_model.", layouts.ldm_unet(is_control=True, **layouts.SD2)), ("controlnet", "sd2")
    ),  # type: ignore[arg-type]
    "controlnet with a whole sd1": Case(
        lambda: checkpoint("sd1") | below("control_model.", layouts.ldm_unet(is_control=True)), ("controlnet", "sd1")
    ),
    "controlnet sdxl, first names": Case(
        lambda: below("control_model.", layouts.ldm_unet(is_control=True, **layouts.SDXL)),
        ("controlnet", "unknown"),
        words="for SDXL",
    ),  # type: ignore[arg-type]
    "controlnet sd1 diffusers": Case(lambda: diffusers_controlnet(768), ("controlnet", "sd1")),
    "controlnet sd2 diffusers": Case(lambda: diffusers_controlnet(1024), ("controlnet", "sd2")),
    "controlnet sdxl diffusers": Case(lambda: diffusers_controlnet(2048, is_xl=True), ("controlnet", "sdxl")),
    "controlnet union": Case(
        lambda: diffusers_controlnet(2048, is_xl=True, task_embedding=(8, 320)),
        ("controlnet", "sdxl"),
        {"control_type": ("pose", "depth", "soft_edges", "lines", "normals", "segments", "tile", "inpaint")},
    ),
    "controlnet sd3": Case(
        lambda: {
            "controlnet_blocks.0.weight": (1536, 1536),
            "pos_embed.proj.weight": (1536, 16, 2, 2),
            "pos_embed_input.proj.weight": (1536, 16, 2, 2),
            "time_text_embed.text_embedder.linear_1.weight": (1536, 2048),
        },
        ("controlnet", "sd3"),
        {"detail": "for SD 3 and SD 3.5 medium"},
    ),
    "controlnet flux": Case(
        lambda: {
            "controlnet_blocks.0.weight": (3072, 3072),
            "controlnet_x_embedder.weight": (3072, 64),
            "time_text_embed.text_embedder.linear_1.weight": (3072, 768),
        },
        ("controlnet", "flux"),
        words="for Flux",
    ),
    "controlnet of qwen": Case(
        lambda: {
            "controlnet_blocks.0.weight": (3072, 3072),
            "controlnet_x_embedder.weight": (3072, 64),
            "transformer_blocks.0.img_mlp.net.0.proj.weight": (12288, 3072),
        },
        ("controlnet", "unknown"),
        words="not known",
    ),
    "controlnet-xs": Case(
        lambda: diffusers_controlnet(768, **{"control_to_base_for_conv_in.weight": (320, 320, 1, 1)}),
        ("controlnet", "unknown"),
        words="ControlNet-XS that is one file",
    ),
    "control-lora": Case(
        lambda: {"lora_controlnet": (0,), "input_hint_block.0.weight": (16, 3, 3, 3), "label_emb.0.0.up": (1280, 256)},
        ("controlnet", "sdxl"),
        {"detail": "Control-LoRA"},
    ),
    "control-lora sd1": Case(
        lambda: {
            "lora_controlnet": (0,),
            "input_hint_block.0.weight": (16, 3, 3, 3),
            "input_blocks.1.1.transformer_blocks.0.attn2.to_k.down": (128, 768),
        },
        ("controlnet", "sd1"),
        {"detail": "Control-LoRA"},
    ),
    "controlnet lllite": Case(
        lambda: {"lllite_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.down.0.weight": (64, 640)},
        ("controlnet", "sdxl"),
        {"detail": "ControlNet-LLLite"},
    ),
    "controlnet lllite of another model": Case(
        lambda: {"lllite_dit_blocks_4_self_attn_q_proj.down.weight": (64, 2048)},
        ("controlnet", "unknown"),
        words="LLLite",
    ),
    "ip-adapter sd1": Case(lambda: ip_adapter(768, 16), ("ip_adapter", "sd1")),
    "ip-adapter sdxl plus": Case(
        lambda: ip_adapter(
            2048, 70, "", **{"image_proj.latents": (1, 16, 1280), "image_proj.proj_in.weight": (1280, 1280)}
        ),
        ("ip_adapter", "sdxl"),
        {"detail": "Plus"},
    ),
    "ip-adapter sd1 full face": Case(
        lambda: ip_adapter(
            768, 16, "", **{"image_proj.proj.0.weight": (1280, 1280), "image_proj.proj.3.weight": (768,)}
        ),
        ("ip_adapter", "sd1"),
        {"detail": "Full face"},
    ),
    "ip-adapter faceid": Case(
        lambda: ip_adapter(
            768,
            16,
            "",
            **{
                "image_proj.proj.0.weight": (1024, 512),
                "image_proj.norm.weight": (768,),
                "ip_adapter.0.to_k_lora.down.weight": (128, 320),
            },
        ),
        ("ip_adapter", "sd1"),
        {"detail": "FaceID"},
    ),
    "ip-adapter flux": Case(
        lambda: {"double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight": (3072, 4096)},
        ("ip_adapter", "flux"),
        words="for Flux",
    ),
    "t2i-adapter": Case(lambda: t2i("", 192), ("t2i_adapter", "sd1")),
    "t2i-adapter gray": Case(lambda: t2i("", 64), ("t2i_adapter", "sd1")),
    "t2i-adapter light": Case(
        lambda: {
            "body.0.in_conv.weight": (80, 192, 1, 1),
            "body.0.body.0.block1.weight": (80, 80, 3, 3),
            "body.0.out_conv.weight": (320, 80, 1, 1),
        },
        ("t2i_adapter", "sd1"),
    ),
    "t2i-adapter sdxl diffusers": Case(lambda: t2i("adapter.", 768), ("t2i_adapter", "sdxl")),
    "t2i-adapter sdxl": Case(lambda: t2i("", 256), ("t2i_adapter", "sdxl")),
    "t2i-adapter of another fold": Case(
        lambda: t2i("", 48), ("t2i_adapter", "unknown"), words="kind that is not known"
    ),
    "t2i-adapter with another halving": Case(
        lambda: t2i("", 192) | {"body.2.down_opt.op.weight": (320, 320, 3, 3)},
        ("t2i_adapter", "unknown"),
        words="kind that is not known",
    ),
    # Embeddings and hypernetworks
    "embedding sd1": Case(lambda: {"emb_params": (8, 768)}, ("embedding", "sd1")),
    "embedding sd2": Case(lambda: {"emb_params": (4, 1024)}, ("embedding", "sd2")),
    "embedding sdxl": Case(lambda: {"clip_l": (8, 768), "clip_g": (8, 1280)}, ("embedding", "sdxl")),
    "embedding diffusers": Case(lambda: {"<cat-toy>": (768,)}, ("embedding", "sd1")),
    "embedding of a small model": Case(lambda: {"emb_params": (2, 32)}, ("embedding", "unknown")),
    "embedding of a small model, told by metadata": Case(
        lambda: {"emb_params": (2, 32)},
        ("embedding", "sd1"),
        metadata={"modelspec.architecture": "stable-diffusion-v1/textual-inversion"},
    ),
    "embedding sdxl by the advanced dreambooth script": Case(
        lambda: {"text_encoders_0": (2, 768), "text_encoders_1": (2, 1280)}, ("embedding", "sdxl")
    ),
    "embedding sd1 by the same": Case(lambda: {"text_encoders_0": (2, 768)}, ("embedding", "sd1")),
    "embedding sd2 by OneTrainer": Case(lambda: {"clip_l": (2, 1024)}, ("embedding", "sd2")),
    "embedding sdxl, outputs too": Case(
        lambda: {"clip_l": (8, 768), "clip_g": (8, 1280), "clip_l_out": (8, 768), "clip_g_out": (8, 1280)},
        ("embedding", "sdxl"),
    ),
    "embedding converted elsewhere": Case(
        lambda: {"string_to_param.*": (8, 768), "string_to_token.*": (1,)}, ("embedding", "sd1")
    ),
    "embedding of a token with a full stop": Case(lambda: {"sks.": (1, 768)}, ("embedding", "sd1")),
    "embedding sd3": Case(lambda: {"clip_l": (8, 768), "clip_g": (8, 1280), "t5xxl": (8, 4096)}, ("embedding", "sd3")),
    "hypernetwork sd1": Case(lambda: hypernetwork(320, 640, 768, 1280), ("hypernetwork", "sd1")),
    "hypernetwork sd2": Case(lambda: hypernetwork(1024), ("hypernetwork", "sd2")),
    # Upscalers and the rest
    "upscaler esrgan": Case(rrdb, ("upscaler", "upscaler")),
    "upscaler realesrgan": Case(
        lambda: {"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
        ("upscaler", "upscaler"),
    ),
    "clip text encoder": Case(layouts.clip_text, (None, "unknown"), {"detail": "a text encoder"}),
    "open clip": Case(lambda: layouts.open_clip_text(1280, 32), (None, "unknown"), {"detail": "a text encoder"}),
    "t5": Case(
        lambda: {"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)},
        (None, "unknown"),
        {"detail": "a text encoder"},
    ),
    "clip vision": Case(
        lambda: {"vision_model.embeddings.class_embedding": (1280,)}, (None, "unknown"), {"detail": "an image encoder"}
    ),
    "motion module": Case(
        lambda: {"down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": (320, 320)},
        (None, "unknown"),
        {"detail": "a motion module"},
    ),
    "a classifier": Case(lambda: {"fc.weight": (10, 768), "fc.bias": (10,)}, (None, "unknown")),
    "one weight": Case(lambda: {"linear.weight": (4, 768)}, (None, "unknown")),
    "one number": Case(lambda: {"t": (1,)}, (None, "unknown")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_header_tells_what_its_file_is(name: str) -> None:
    case = CASES[name]
    found = sniff(tensors(case.make()), case.metadata)
    assert (found.kind, found.family) == case.told
    assert {field: getattr(found, field) for field in case.fields} == dict(case.fields)
    assert case.words in found.problem and bool(found.problem) == bool(case.words)
    assert bool(found.hint) == bool(found.problem)


def test_enough_headers_are_told_apart() -> None:
    assert len(CASES) >= 40
    assert len({frozenset(case.make().items()) for case in CASES.values()}) >= 90


@pytest.mark.parametrize(
    ("make", "count"),
    [  # of the published files
        (lambda: layouts.ldm_unet(), 686),
        (lambda: layouts.ldm_unet(**layouts.SDXL), 1680),  # type: ignore[arg-type]
        (lambda: layouts.ldm_unet(**layouts.SD2), 686),
        (layouts.ldm_vae, 248),  # type: ignore[arg-type]
        (layouts.clip_text, 197),
        (lambda: layouts.ldm_unet(is_control=True), 340),
    ],
)
def test_the_layouts_are_those_of_real_files(make: Callable[[], Shapes], count: int) -> None:
    assert len(make()) == count


def small(name: str) -> Sniffed:
    """A model of the same build whose widths are no family's."""
    small_sizes: dict[str, dict[str, object]] = {
        "sd1": {"width": 32},
        "sd2": {"width": 32, "is_linear": True},
        "sdxl": {"width": 64, "is_linear": True, "labels": 80, "factors": (1, 2), "depths": (0, 2), "middle": 2},
    }
    sizes = {"base": 32, "factors": (1, 2), "depths": (1, 0), **small_sizes[name]}
    shapes = below(UNET, layouts.ldm_unet(**sizes)) | below("first_stage_model.", layouts.ldm_vae())  # type: ignore[arg-type]
    text = {
        "sd1": below("cond_stage_model.transformer.", layouts.clip_text(32, 2)),
        "sd2": below("cond_stage_model.model.", layouts.open_clip_text(32, 2)),
        "sdxl": below("conditioner.embedders.0.transformer.", layouts.clip_text(32, 2))
        | below("conditioner.embedders.1.model.", layouts.open_clip_text(32, 2)),
    }
    return sniff(tensors(shapes | text[name]))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_small_model_is_told_by_its_build(family: str) -> None:
    found = small(family)
    assert (found.kind, found.family, found.problem) == ("checkpoint", family, "")


@pytest.mark.parametrize(
    "shapes",
    [
        {"task_embedding": (), "controlnet_cond_embedding.conv_in.weight": ()},
        {"emb_params": ()},
        {f"{UNET}input_blocks.0.0.weight": (4,)},
        {"decoder.conv_in.weight": (), "encoder.conv_in.weight": ()},
        {"lora_unet_down_blocks_0_attn2_to_k.lora_down.weight": ()},
        {"x.lokr_w1": (), "x.lokr_w2": ()},
        {f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3), f"{UNET}a.attn2.to_k.weight": ()},
        {"768.0.linear.0.weight": ()},
        {"joint_blocks.0.x_block.attn.qkv.weight": ()},
        {"ip_adapter.1.to_k_ip.weight": (), "image_proj.x": ()},
    ],
)
def test_no_shape_upsets_it(shapes: Mapping[str, tuple[int, ...]]) -> None:
    assert isinstance(sniff({name: TensorInfo("F16", shape, 0, 0) for name, shape in shapes.items()}), Sniffed)


def test_nothing_is_no_model() -> None:
    assert sniff({}) == Sniffed(None)


def test_metadata_never_overrules_names_and_shapes() -> None:
    found = sniff(
        tensors(lora("sd1")), {"ss_base_model_version": "sdxl_base_v1-0", "modelspec.architecture": "flux-1-dev"}
    )
    assert found.family == "sd1"
