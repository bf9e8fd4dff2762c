"""Pictures of other programs: their words in ours, what can't be read named, and never JSON in the prompt."""

import gzip
import json
from typing import Any

import pytest
from PIL import Image

from contract.errors import InvalidInput
from studio.library.model_list import ModelList
from studio.metadata.import_recipe import FoundRecipe, read_recipe
from tests.support.images import encoded, png

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a barn"}},
}
WORKFLOW = {"last_node_id": 9, "nodes": [{"id": 3, "type": "KSampler"}], "links": [], "version": 0.4}
NAI = {
    "prompt": "a barn, {oil}",
    "uc": "blurry",
    "steps": 28,
    "scale": 5.0,
    "seed": 42,
    "sampler": "k_euler_ancestral",
    "width": 832,
    "height": 1216,
    "noise_schedule": "native",
    "n_samples": 1,
}
FOOOCUS = {
    "prompt": "a barn",
    "negative_prompt": "blurry",
    "styles": "['Fooocus V2']",
    "performance": "Speed",
    "steps": 30,
    "resolution": "(832, 1216)",
    "guidance_scale": 4.0,
    "sharpness": 2.0,
    "base_model": "juggernautXL_v8",
    "base_model_hash": "aeb7e9e689",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "42",
    "loras": [["offset.safetensors", 0.1, "abc"]],
    "version": "Fooocus v2.5.0",
}
INVOKE = {
    "generation_mode": "txt2img",
    "positive_prompt": "a barn",
    "negative_prompt": "blurry",
    "width": 832,
    "height": 1216,
    "seed": 42,
    "cfg_scale": 7.5,
    "steps": 30,
    "scheduler": "dpmpp_2m_k",
    "model": {"name": "dream", "hash": "blake3:00"},
    "loras": [{"model": {"name": "ink"}, "weight": 0.75}],
    "clip_skip": 1,
}
OLD_INVOKE = {
    "model_weights": "stable-diffusion-1.5",
    "image": {
        "prompt": [{"prompt": "a barn [blurry]", "weight": 1}],
        "steps": 30,
        "cfg_scale": 7.5,
        "seed": 42,
        "width": 832,
        "height": 1216,
        "sampler": "k_euler",
    },
}
DRAW_THINGS = {
    "c": "a barn",
    "uc": "blurry",
    "steps": 30,
    "scale": 4.5,
    "seed": 42,
    "sampler": "DPM++ 2M Karras",
    "size": "832x1216",
    "model": "sd_v1.5_f16.ckpt",
    "strength": 1,
    "lora": [{"model": "ink.ckpt", "weight": 0.6}],
}
SWARM = {
    "sui_image_params": {
        "prompt": "a barn",
        "negativeprompt": "blurry",
        "model": "OfficialStableDiffusion/dream",
        "seed": 42,
        "steps": 30,
        "cfgscale": 7.0,
        "width": 832,
        "height": 1216,
        "sampler": "euler",
        "swarm_version": "0.9",
    }
}
EASY = {
    "prompt": "a barn",
    "negative_prompt": "blurry",
    "seed": "42",
    "num_inference_steps": "30",
    "guidance_scale": "7.5",
    "width": "832",
    "height": "1216",
    "sampler_name": "euler_a",
    "use_stable_diffusion_model": "dream",
    "clip_skip": "True",
}
CIVITAI = {
    "prompt": json.dumps(GRAPH),
    "extraMetadata": json.dumps(
        {
            "prompt": "a barn",
            "negativePrompt": "blurry",
            "steps": 30,
            "cfgScale": 7,
            "sampler": "euler",
            "seed": 42,
            "width": 832,
            "height": 1216,
        }
    ),
}
READ: dict[str, tuple[str, dict[str, str]]] = {
    "NovelAI": ("NovelAI", {"Software": "NovelAI", "Source": "NovelAI Diffusion V3", "Comment": json.dumps(NAI)}),
    "NovelAI, version 4": (
        "NovelAI",
        {
            "Software": "NovelAI",
            "Comment": json.dumps({**NAI, "prompt": "", "v4_prompt": {"caption": {"base_caption": "a barn, {oil}"}}}),
        },
    ),
    "NovelAI's WebP": ("NovelAI", {"UserComment": json.dumps({"Software": "NovelAI", "Comment": json.dumps(NAI)})}),
    "RuinedFooocus": (
        "Fooocus",
        {
            "parameters": json.dumps(
                {
                    "Prompt": "a barn",
                    "Negative": "blurry",
                    "steps": 30,
                    "cfg": 8,
                    "width": 832,
                    "height": 1216,
                    "seed": 42,
                    "loras": [["aa", "0.5 - ink.safetensors"]],
                    "software": "RuinedFooocus",
                }
            )
        },
    ),
    "Tensor.art": (
        "another program",
        {
            "generation_data": json.dumps(
                {
                    "prompt": "a barn",
                    "negativePrompt": "blurry",
                    "steps": 30,
                    "seed": "42",
                    "width": 832,
                    "height": 1216,
                    "baseModel": {"label": "dream", "modelFileName": "dream_8"},
                    "models": [{"label": "ink", "type": "LORA", "weight": 0.8, "modelFileName": "ink"}],
                }
            )
            + "\0"
        },
    ),
    "Fooocus": ("Fooocus", {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}),
    "InvokeAI": ("InvokeAI", {"invokeai_metadata": json.dumps(INVOKE), "invokeai_graph": "{}"}),
    "InvokeAI 2": ("InvokeAI", {"sd-metadata": json.dumps(OLD_INVOKE)}),
    "InvokeAI 1": ("InvokeAI", {"Dream": '"a barn [blurry]" -s 30 -S 42 -W 832 -H 1216 -C 7.5 -A k_euler'}),
    "Draw Things": ("Draw Things", {"UserComment": json.dumps(DRAW_THINGS)}),
    "SwarmUI": ("SwarmUI", {"parameters": json.dumps(SWARM)}),
    "Easy Diffusion": ("Easy Diffusion", EASY),
    "Easy Diffusion's JPEG": ("Easy Diffusion", {"UserComment": json.dumps(EASY)}),
    "Civitai's generator": ("Civitai", {"UserComment": json.dumps(CIVITAI)}),
    "one that nobody knows": (
        "another program",
        {
            "generation_data": json.dumps(
                {
                    "prompt": "a barn",
                    "negativePrompt": "blurry",
                    "steps": 30,
                    "samplerName": "Euler",
                    "seed": 42,
                    "imageSize": "832 x 1216",
                }
            )
        },
    ),
}
UNREAD: dict[str, tuple[str, dict[str, str]]] = {
    "ComfyUI": ("ComfyUI", {"prompt": json.dumps(GRAPH), "workflow": json.dumps(WORKFLOW)}),
    "ComfyUI, page only": ("ComfyUI", {"workflow": json.dumps(WORKFLOW)}),
    "ComfyUI with NaN": ("ComfyUI", {"prompt": json.dumps(GRAPH).replace("1}", "NaN}")}),
    "ComfyUI in WebP": (
        "ComfyUI",
        {"Model": "prompt:" + json.dumps(GRAPH), "Make": "workflow:" + json.dumps(WORKFLOW)},
    ),
    "ComfyUI with a space": ("ComfyUI", {"Make": "Workflow: " + json.dumps(WORKFLOW)}),
    "ComfyUI in one object": (
        "ComfyUI",
        {"UserComment": json.dumps({"prompt": json.dumps(GRAPH), "workflow": json.dumps(WORKFLOW)})},
    ),
    "Mochi": (
        "Mochi Diffusion",
        {"Description": "Include in Image: a barn; Steps: 20; Seed: 3; Generator: Mochi Diffusion 5"},
    ),
    "InvokeAI's graph": ("InvokeAI", {"invokeai_graph": json.dumps({"nodes": {}})}),
    "Midjourney": ("Midjourney", {"Description": "a barn --ar 2:3 Job ID: 01234567-89ab-cdef-0123-456789abcdef"}),
    "JSON of who knows": ("another program", {"parameters": '{"what": "ever"}'}),
}


@pytest.fixture(scope="module")
def models() -> ModelList:
    return ModelList(())


def picture(texts: dict[str, str]) -> bytes:
    """A PNG, or a WebP where the texts stand in EXIF."""
    tags = {"UserComment": 0x9286, "Make": 0x010F, "Model": 0x0110}
    if not texts.keys() & tags.keys():
        return png(texts=texts)
    exif = Image.Exif()
    for name, text in texts.items():
        if name == "UserComment":
            exif.get_ifd(0x8769)[tags[name]] = b"UNICODE\0" + text.encode("utf-16-be")
        else:
            exif[tags[name]] = text
    return encoded(Image.new("RGB", (8, 8)), "WEBP", exif=exif)


def read(models: ModelList, texts: dict[str, str]) -> FoundRecipe:
    return read_recipe(picture(texts), models, lambda sha256: None)


@pytest.mark.parametrize("name", READ)
def test_what_other_programs_wrote_is_translated(models: ModelList, name: str) -> None:
    program, texts = READ[name]
    found = read(models, texts)
    assert found.draft is not None
    assert str(found.draft["prompt"]).startswith("a barn") and "<lora" not in str(found.draft["prompt"])
    assert found.draft["negative_prompt"] == "blurry" and found.draft["seed"] == 42
    assert (found.draft["width"], found.draft["height"]) == (832, 1216) and found.draft["steps"] in (28, 30)
    assert found.notices[0] == f"Made by {program}; what it wrote was translated."
    assert not any(mark in str(found.draft["prompt"]) for mark in '"[]')


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("NovelAI", {"sampler": "euler_a", "guidance": 5.0}, "NovelAI's weights"),
        (
            "Fooocus",
            {"sampler": "dpmpp_2m_sde", "schedule": "karras", "guidance": 4.0},
            "its styles and sharpness are not used",
        ),
        ("Fooocus", {}, "LoRA “offset” is not here"),
        ("InvokeAI", {"sampler": "dpmpp_2m", "schedule": "karras", "clip_skip": 2}, "“dream”"),
        ("RuinedFooocus", {"guidance": 8.0}, "LoRA “ink” is not here"),
        ("Tensor.art", {}, "LoRA “ink” is not here"),
        ("Tensor.art", {}, "Made with “dream_8”"),
        ("InvokeAI", {}, "LoRA “ink” is not here"),
        ("Draw Things", {"sampler": "dpmpp_2m", "schedule": "karras"}, "sd_v1.5_f16"),
        ("Easy Diffusion", {"clip_skip": 2, "sampler": "euler_a"}, "“dream”"),
    ],
)
def test_their_own_things_are_said(models: ModelList, name: str, fields: dict[str, Any], words: str) -> None:
    found = read(models, READ[name][1])
    assert found.draft is not None and fields.items() <= found.draft.items()
    assert words in " ".join(found.notices)


@pytest.mark.parametrize("name", UNREAD)
def test_what_cant_be_read_is_named_with_its_program(models: ModelList, name: str) -> None:
    program, texts = UNREAD[name]
    with pytest.raises(InvalidInput, match=f"made by {program}; .* can't be read here yet") as refused:
        read(models, texts)
    assert refused.value.code == "foreign_recipe"


def test_an_infotext_beside_a_graph_counts(models: ModelList) -> None:
    texts = {**UNREAD["ComfyUI"][1], "parameters": "a barn\nSteps: 20, Sampler: Euler, Seed: 3, Size: 64x64"}
    assert (read(models, texts).draft or {})["seed"] == 3


def hidden(text: str, signature: str, size: tuple[int, int] = (96, 96)) -> bytes:
    """A picture with a text in its lowest bits."""
    data = gzip.compress(text.encode()) if signature.endswith("comp") else text.encode()
    bits = "".join(f"{byte:08b}" for byte in signature.encode() + (8 * len(data)).to_bytes(4, "big") + data)
    mode, bands = ("RGBA", [3]) if "png" in signature else ("RGB", [0, 1, 2])
    image = Image.new(mode, size, (40, 80, 120, 254)[: len(mode)])
    places = ((x, y, band) for x in range(size[0]) for y in range(size[1]) for band in bands)
    for (x, y, band), bit in zip(places, bits, strict=False):
        pixel = list(image.getpixel((x, y)))  # type: ignore[arg-type]
        pixel[band] = pixel[band] & ~1 | int(bit)
        image.putpixel((x, y), tuple(pixel))
    return encoded(image, "PNG")


@pytest.mark.parametrize("signature", ["stealth_pnginfo", "stealth_pngcomp", "stealth_rgbinfo", "stealth_rgbcomp"])
def test_texts_in_the_lowest_bits_are_found(models: ModelList, signature: str) -> None:
    for text in (
        "a barn\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, Seed: 42, Size: 64x64",
        json.dumps({"Software": "NovelAI", "Comment": json.dumps(NAI)}),
    ):
        found = read_recipe(hidden(text, signature), models, lambda sha256: None)
        assert found.draft is not None and found.draft["seed"] == 42 and found.draft["negative_prompt"] == "blurry"


def test_a_hidden_bomb_and_a_lying_length_give_nothing(models: ModelList) -> None:
    for data in (hidden("x" * 20, "stealth_pnginfo"), hidden("\0" * 4_500_000, "stealth_pngcomp", (256, 256))):
        with pytest.raises(InvalidInput, match="no recipe"):
            read_recipe(data, models, lambda sha256: None)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 100_000, '{"prompt": ' + "9" * 5000 + "}", '{"prompt": "x"', "{}", "null"]
)
@pytest.mark.parametrize("key", ["parameters", "prompt", "workflow", "Comment", "invokeai_metadata", "sd-metadata"])
def test_hostile_json_is_no_prompt_and_no_fall(models: ModelList, key: str, text: str) -> None:
    try:
        found = read(models, {key: text})
    except InvalidInput:
        return
    assert found.draft is None or not str(found.draft["prompt"]).startswith('{"')


CHARACTERS = {
    **NAI,
    "prompt": "a barn",
    "v4_prompt": {
        "caption": {"base_caption": "a barn", "char_captions": [{"char_caption": "a cow"}, {"char_caption": ""}]}
    },
    "v4_negative_prompt": {"caption": {"char_captions": [{"char_caption": "horns"}]}},
}
APART = {
    **SWARM["sui_image_params"],
    "loras": ["here/ink.safetensors"],
    "loraweights": ["0.5"],
    "clipstopatlayer": "-2",
    "refinerupscale": 2,
}
SUMMARY = "a barn\n-blurry\nSteps: 30, Sampler: DPM++ 2M Karras, Guidance Scale: 4.5, Seed: 42, Size: 832x1216"


@pytest.mark.parametrize(
    ("texts", "fields", "words"),
    [
        (
            {"Software": "NovelAI", "Comment": json.dumps(CHARACTERS)},
            {"prompt": "a barn, a cow", "negative_prompt": "blurry, horns"},
            "NovelAI's characters stand at the end",
        ),
        ({"parameters": json.dumps({"sui_image_params": APART})}, {"clip_skip": 2}, "LoRA “ink” is not here"),
        ({"parameters": json.dumps({"sui_image_params": APART})}, {}, "Not used: refinerupscale."),
        (
            {"Comment": SUMMARY, "UserComment": json.dumps(DRAW_THINGS)},
            {"prompt": "a barn", "negative_prompt": "blurry"},
            "Draw Things",
        ),
        (
            {
                "invokeai_metadata": json.dumps(
                    {
                        **INVOKE,
                        "positive_style_prompt": "oil",
                        "hrf_enabled": True,
                        "seamless_x": False,
                        "seamless_y": True,
                    }
                )
            },
            {"clip_skip": 2, "prompt_2": "oil", "tiling": "y"},
            "Not used: hrf_enabled.",
        ),
        (
            {"invokeai_metadata": json.dumps({**INVOKE, "model": {"name": "x", "base": "sd-2"}})},
            {"clip_skip": 3},
            "“x”",
        ),
        (
            {
                "UserComment": json.dumps(
                    {
                        **CIVITAI,
                        "extraMetadata": json.dumps(
                            {**json.loads(CIVITAI["extraMetadata"]), "resources": [{"modelVersionId": 1}]}
                        ),
                    }
                )
            },
            {"seed": 42},
            "Not used: resources.",
        ),
        (
            {
                "parameters": "a barn\nSteps: 30, Sampler: Euler, Seed: 42, CFG scale: 4, Base model: dream, Scheduler: simple, VAE: Default (model), "
                "Version: Fooocus v2.5.5"
            },
            {"guidance": 4.0, "schedule": "simple"},
            "Made with “dream”",
        ),
    ],
)
def test_what_they_say_is_used_or_named(
    models: ModelList, texts: dict[str, str], fields: dict[str, Any], words: str
) -> None:
    found = read_recipe(png(texts=texts), models, lambda sha256: None)
    assert fields.items() <= (found.draft or {}).items()
    assert words in " ".join(found.notices) and "VAE" not in " ".join(found.notices)
    assert len(set(found.notices)) == len(found.notices)


@pytest.mark.parametrize(
    "keys",
    [
        "HiRes scale: 2, HiRes upscaler: Latent, HiRes steps: 10, HiRes strength: 0.3",
        "Hires scale: 2, Hires upscaler: Latent, Hires steps: 10, Hires strength: 0.3",
        "Hires fixed: 1664x2432, Hires upscaler: Latent, Hires steps: 10, Hires strength: 0.3",
    ],
)
def test_sd_next_s_hires_pass_is_read(models: ModelList, keys: str) -> None:
    found = read(models, {"parameters": f"a barn\nSteps: 30, Size: 832x1216, Seed: 42, {keys}, App: SD.Next"})
    assert (found.draft or {})["hires"] == {"scale": 2.0, "upscaler": "latent", "steps": 10, "strength": 0.3}


@pytest.mark.parametrize("key", ["parameters", "Description"])
def test_an_infotext_in_one_line_is_read(models: ModelList, key: str) -> None:
    found = read(
        models, {key: "a barn, oil Negative prompt: blurry Steps: 30, Sampler: Euler a, Seed: 42, Size: 832x1216"}
    )
    assert found.draft is not None and (found.draft["prompt"], found.draft["negative_prompt"]) == (
        "a barn, oil",
        "blurry",
    )
    assert found.draft["sampler"] == "euler_a"
