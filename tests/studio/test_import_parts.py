"""Sizes, samplers and hires passes of other programs' infotexts, with the arithmetic of their older keys."""

from typing import Any

import pytest

from studio.library.model_list import ModelList
from studio.metadata.import_parts import hires_fields, noise_fields, number, sampler_fields, sampler_notice, size_fields
from studio.metadata.infotext import parse_infotext, parse_pairs


def found(text: str) -> tuple[dict[str, Any], list[str]]:
    notices: list[str] = []
    pairs = parse_pairs(text)
    size = size_fields(pairs, notices)
    first = (size["width"], size["height"]) if size else None
    return size | hires_fields(pairs, first, ModelList(()), notices), notices  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "size", "scale", "words"),
    [
        ("Size: 512x768, Hires upscale: 1.5, Hires upscaler: Latent", (512, 768), 1.5, ""),
        ("Size: 512x768, Hires resize: 1024x1536, Hires upscaler: Latent", (512, 768), 2.0, ""),
        ("Size: 512x768, Hires resize: 1024x0", (512, 768), 2.0, ""),
        ("Size: 512x768, Hires resize: 0x1152", (512, 768), 1.5, ""),
        (
            "Size: 512x512, Hires resize: 1024x768",
            (512, 512),
            2.0,
            "crops its hires pass to 1024 × 768; here it is 1024 × 1024",
        ),
        ("Size: 512x512, Hires resize: 0x0", (512, 512), None, ""),
        ("Size: 512x512, Hires resize: 512x512", (512, 512), None, "left out"),
        ("Size: 512x512, Hires resize: 9000x9000", (512, 512), None, "left out"),
        # Before “Hires upscale”: “Size” is the result's.
        ("Size: 1024x1536, First pass size: 512x768, Denoising strength: 0.7", (512, 768), 2.0, ""),
        ("Size: 1024x1024, First pass size: 0x0, Denoising strength: 0.7", (512, 512), 2.0, ""),
        (
            "Size: 1024x1536, First pass size: 0x0",
            (448, 640),
            2.4,
            "crops its hires pass to 1024 × 1536; here it is 1072 × 1536",
        ),
        ("Size: 500x512", (496, 512), None, "sides are multiples of 8: 496 × 512 is used"),
        ("Size: 4096x2048", (2048, 1024), None, "sides are at most 2048"),
        ("Size: 512 x 768", (512, 768), None, ""),
    ],
)
def test_sizes_are_converted(text: str, size: tuple[int, int], scale: float | None, words: str) -> None:
    fields, notices = found(text)
    assert (fields["width"], fields["height"]) == size
    assert fields.get("hires", {}).get("scale") == (pytest.approx(scale, abs=1e-5) if scale else None)
    assert words in " ".join(notices) and bool(words) == bool(notices)


@pytest.mark.parametrize(
    ("text", "hires"),
    [
        ("Hires sampler: DPM++ 2M Karras", {"sampler": "dpmpp_2m", "schedule": "karras"}),
        ("Hires sampler: Use same sampler, Hires schedule type: Use same scheduler", {}),
        ("Hires sampler: Euler a, Hires schedule type: SGM Uniform", {"sampler": "euler_a", "schedule": "sgm_uniform"}),
        ("Hires CFG Scale: 5, CFG scale: 7", {"guidance": 5.0}),
        ("Hires CFG Scale: 7, CFG scale: 7", {}),
        ('Hires prompt: "a, b: c", Hires negative prompt: dull', {"prompt": "a, b: c", "negative_prompt": "dull"}),
        ("Hires steps: 0", {}),
        ("Hires steps: 9.0", {"steps": 9}),
        ("Hires strength: 0.3, Denoising strength: 0.6", {"strength": 0.3}),
    ],
)
def test_a_hires_pass_has_its_own_settings(text: str, hires: dict[str, Any]) -> None:
    fields, notices = found(f"Size: 64x64, Hires upscale: 2, Hires upscaler: Lanczos, {text}")
    assert fields["hires"] == {"scale": 2.0, "upscaler": "lanczos", **hires} and not notices


def test_a_hires_sampler_that_nobody_knows_is_said() -> None:
    fields, notices = found("Size: 64x64, Hires upscale: 2, Hires sampler: Odd, Hires schedule type: Odder")
    assert fields["hires"] == {"scale": 2.0, "upscaler": "latent"} and len(notices) == 2


@pytest.mark.parametrize(
    ("pairs", "fields", "words"),
    [
        ({"Sampler": "DPM++ 2M SDE Karras"}, {"sampler": "dpmpp_2m_sde", "schedule": "karras"}, ""),
        ({"Sampler": "euler_a karras"}, {"sampler": "euler_a", "schedule": "karras"}, ""),
        (
            {"Sampler": "Euler", "Schedule type": "Phi"},
            {"sampler": "euler", "schedule": "automatic"},
            "not known",
        ),
        (
            {"Sampler": "DDIM", "Schedule type": "Karras"},
            {"sampler": "ddim", "schedule": "automatic"},
            "does not go with DDIM",
        ),
        ({"Sampler": "Euler", "Schedule type": "KL Optimal"}, {"sampler": "euler", "schedule": "kl_optimal"}, ""),
        ({"Sampler": "DPM++ 3M SDE Exponential"}, {"sampler": "dpmpp_3m_sde", "schedule": "exponential"}, ""),
        ({"Sampler": "Euler Dy"}, {}, "not known"),
        ({"Schedule type": "Karras"}, {}, ""),
    ],
)
def test_samplers_by_the_names_of_others(pairs: dict[str, str], fields: dict[str, str], words: str) -> None:
    notices: list[str] = []
    assert sampler_fields(pairs, notices) == fields and words in " ".join(notices)


@pytest.mark.parametrize(
    ("pairs", "noise"),
    [
        ({"Version": "v1.10.1"}, {"source": "nv"}),
        ({"Version": "f2.0.1v1.10.1"}, {"source": "nv"}),
        ({"Version": "v1.10.1", "RNG": "CPU"}, {"source": "cpu"}),
        ({"RNG": "NV", "ENSD": "31337"}, {"source": "nv", "eta_seed_delta": 31337}),
        ({"RNG": "GPU"}, {"source": "nv"}),
        ({"ENSD": "31337"}, {"source": "nv", "eta_seed_delta": 31337}),
        ({"Version": "Darkroom 0.1"}, None),
        ({"Version": "v2.0"}, None),
        ({}, None),
        (
            {"Variation seed": "7", "Variation seed strength": "0.25"},
            {"variation_seed": 7, "variation_strength": 0.25},
        ),
        ({"Variation seed": "7", "Seed resize from": "0x0"}, None),
        ({"Seed resize from": "512x768"}, {"resize_width": 512, "resize_height": 768}),
    ],
)
def test_noise_by_the_words_of_others(pairs: dict[str, str], noise: dict[str, object] | None) -> None:
    assert noise_fields(pairs).get("noise") == noise


def test_settings_by_the_words_of_others() -> None:
    pairs = {"Eta DDIM": "0.3", "Sigma churn": "2", "Sigma tmax": "inf", "Discard penultimate sigma": "True"}
    assert noise_fields(pairs)["sampling"] == {"eta": 0.3, "s_churn": 2.0, "discard_penultimate": True}


def test_a_sampler_that_differs_is_said_to_unless_it_was_ours() -> None:
    assert "one step less" in sampler_notice({"Sampler": "DDIM"})
    assert sampler_notice({"Sampler": "DDIM", "Version": "Darkroom 0.1"}) == ""
    assert sampler_notice({"Sampler": "Euler a"}) == sampler_notice({"Sampler": "none such"}) == ""


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("20", int, 20),
        ("2.0", int, 2),
        ("2.5", int, "2.5"),
        ("nan", float, "nan"),
        ("7.000000", float, 7.0),
        ("abc", int, "abc"),
        (str(2**64 - 1), int, 2**64 - 1),
        ("9" * 50, int, "9" * 50),
        ("inf", int, "inf"),
    ],
)
def test_numbers_are_read_as_they_are_meant(text: str, kind: type, value: object) -> None:
    assert number(text, kind) == value


def test_lines_behind_the_last_one_and_values_that_are_json_are_read() -> None:
    resources = '[{"type":"checkpoint","modelVersionId":1,"modelName":"Dream, or: not"},{"type":"lora","weight":0.8}]'
    found = parse_infotext(
        f"a barn\nNegative prompt: blurry\nSteps: 25, CFG scale: 3.5, Sampler: Undefined, Seed: 1, Size: 832x1216, "
        f"Created Date: 2024-09-15T21:48:25.1Z, Civitai resources: {resources}, Civitai metadata: {{}}\n"
        "Template: a __place__, Negative Template: x"
    )
    assert found.prompt == "a barn" and found.negative_prompt == "blurry"
    assert found.pairs["Civitai resources"] == resources and found.pairs["Civitai metadata"] == "{}"
    assert found.pairs["Template"] == "a __place__" and found.pairs["Created Date"] == "2024-09-15T21:48:25.1Z"
