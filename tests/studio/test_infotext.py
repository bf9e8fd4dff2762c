"""A1111's infotext: written in its order, read back equal, linear on hostile text."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.recipe import ModelRef, Recipe
from studio import VERSION
from studio.metadata import infotext


def recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {
        "prompt": "a red barn",
        "model": ModelRef(name="starter", family="sd1", sha256="ab" * 32),
        "sampler": "dpmpp_2m",
        "schedule": "karras",
        "steps": 20,
        "guidance": 7.0,
        "width": 512,
        "height": 768,
        "seed": 42,
    }
    return Recipe.model_validate({**values, **changes})


def test_it_is_written_in_the_field_s_order() -> None:
    text = infotext.write(recipe(negative_prompt="blurry", clip_skip=2, guidance=7.5))
    assert text == (
        "a red barn\nNegative prompt: blurry\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 512x768, "
        f"Model hash: ababababab, Model: starter, Clip skip: 2, Version: Darkroom {VERSION}"
    )


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"init_image": {"image": {"sha256": "0" * 64}, "strength": 0.4}}, "Denoising strength: 0.4, Version"),
        (
            {"init_image": {"image": {"sha256": "0" * 64}}, "mask": {"image": {"sha256": "0" * 64}, "area": "masked"}},
            "Denoising strength: 0.75, Mask blur: 4, Inpaint area: Only masked, Version",
        ),
        (
            {"hires": {"scale": 1.5, "steps": 9}},
            "Denoising strength: 0.5, Hires upscale: 1.5, Hires steps: 9, Hires upscaler: Latent, Version",
        ),
        (
            {"hires": {"upscaler": {"kind": "upscaler", "name": "esrgan", "family": "upscaler"}}},
            "Hires upscale: 2, Hires upscaler: esrgan, Version",
        ),
    ],
)
def test_what_a_picture_began_from_is_said_in_the_fields_words(parts: dict[str, object], words: str) -> None:
    assert words in infotext.write(recipe(**parts))


@pytest.mark.parametrize(
    ("family", "clip_skip", "words"),
    [
        ("sd1", 2, "Clip skip: 2, Version"),
        ("sdxl", 2, "Clip skip: 3, Version"),
        ("sd2", 3, "Clip skip: 4, Version"),
        ("sdxl", 1, "Model: starter, Version"),
    ],
)
def test_clip_skip_is_counted_as_other_programs_do(family: str, clip_skip: int, words: str) -> None:
    model = ModelRef(name="starter", family=family)
    assert words in infotext.write(recipe(clip_skip=clip_skip, model=model))


@pytest.mark.parametrize(("emphasis", "label"), [("no_norm", "No norm"), ("none", "None"), ("comfyui", "ComfyUI")])
def test_emphasis_is_said_as_a1111_does(emphasis: str, label: str) -> None:
    assert f"Emphasis: {label}, Version" in infotext.write(recipe(emphasis=emphasis))
    assert "Emphasis" not in infotext.write(recipe())


@pytest.mark.parametrize(("tiling", "words"), [("xy", "Tiling: True"), ("x", "Tiling: x"), ("y", "Tiling: y")])
def test_tiling_is_said_as_a1111_does_and_single_axes_by_name(tiling: str, words: str) -> None:
    assert f"{words}, Version" in infotext.write(recipe(tiling=tiling))
    assert "Tiling" not in infotext.write(recipe())


def test_tags_behind_a_comment_stand_on_a_line_of_their_own() -> None:
    loras = ({"model": {"kind": "lora", "name": "ink", "family": "sd1"}, "weight": 0.8},)
    assert infotext.write(recipe(prompt="a # note\nb", loras=loras)).startswith("a # note\nb <lora:ink:0.8>\n")
    assert infotext.write(recipe(prompt="a # note", loras=loras)).startswith("a # note\n<lora:ink:0.8>\n")


def test_what_acts_on_weights_and_words_is_said_as_the_field_does() -> None:
    def ref(kind: str, name: str, digit: str) -> dict[str, str]:
        return {"kind": kind, "name": name, "family": "sd1", "sha256": digit * 64}

    text = infotext.write(
        recipe(
            loras=(
                {"model": ref("lora", "ink", "a"), "weight": 0.8},
                {
                    "model": ref("lora", "set/oil", "b"),
                    "weight": 1.0,
                    "text_weight": 0.5,
                    "blocks": (1.0,) * 11 + (0.25,),
                },
            ),
            hypernetworks=({"model": ref("hypernetwork", "bend", "c"), "weight": 0.3},),
            embeddings=(ref("embedding", "style", "d"),),
            vae=ref("vae", "soft", "e"),
        )
    )
    assert text.startswith(f"a red barn <lora:ink:0.8> <lora:set/oil:0.5:1:lbw={'1,' * 11}0.25> <hypernet:bend:0.3>\n")
    assert "Model: starter, VAE hash: eeeeeeeeee, VAE: soft" in text
    assert 'Lora hashes: "ink: aaaaaaaaaa, set/oil: bbbbbbbbbb", TI hashes: "style: dddddddddddd", Version' in text
    assert infotext.parse_hashes(infotext.parse_infotext(text).pairs["Lora hashes"]) == {
        "ink": "a" * 10,
        "set/oil": "b" * 10,
    }
    assert infotext.parse_hashes("odd,: x, a:, b:c: 1") == {"b:c": "1"}


def test_a_name_with_commas_is_quoted_and_read_back() -> None:
    name = 'odd, "name": \\ here'
    text = infotext.write(recipe(model=ModelRef(name=name, family="sd1")))
    assert infotext.parse_infotext(text).pairs["Model"] == name


def test_a_forge_text_with_quoted_fields_is_read() -> None:
    text = (
        "masterpiece, (forest:1.2)\nsecond line\nNegative prompt: bad hands,\nworse feet\n"
        "Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 123, Size: 832x1216, Model hash: deadbeef12, "
        'Model: dream, VAE: vae-ft.safetensors, Lora hashes: "ink: 123456, oil: abcdef", '
        'ControlNet 0: "Module: canny, Weight: 1", Version: v1.10.1'
    )
    found = infotext.parse_infotext(text)
    assert found.prompt == "masterpiece, (forest:1.2)\nsecond line"
    assert found.negative_prompt == "bad hands,\nworse feet"
    assert found.pairs["Lora hashes"] == "ink: 123456, oil: abcdef"
    assert (found.pairs["Sampler"], found.pairs["Version"]) == ("DPM++ 2M Karras", "v1.10.1")


def test_a_last_line_of_fewer_than_three_pairs_is_prompt() -> None:
    found = infotext.parse_infotext("note: a barn, style: oil")
    assert found.prompt == "note: a barn, style: oil" and not found.pairs


def test_one_letter_keys_and_unquoted_commas_are_lost_as_in_the_field() -> None:
    assert infotext.parse_pairs("A: 1, Steps: 2, Name: a, b, Seed: 3") == {"Steps": "2", "Name": "a", "Seed": "3"}


LINE = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=60)


@settings(max_examples=200, deadline=None)
@example(prompt=[], negative=[], name="{}0", seed=0, guidance=1.0, clip_skip=1)
@given(
    prompt=st.lists(LINE, max_size=4),
    negative=st.lists(LINE, max_size=3),
    name=LINE,
    seed=st.integers(0, 2**64 - 1),
    guidance=st.floats(0, 30),
    clip_skip=st.integers(1, 4),
)
def test_what_is_written_is_read_back(
    prompt: list[str], negative: list[str], name: str, seed: int, guidance: float, clip_skip: int
) -> None:
    text, negative_text = ("\n".join(part.strip() for part in lines).strip() for lines in (prompt, negative))
    if "Negative prompt:" in text + negative_text:
        return  # the format itself can't tell them apart
    wanted = recipe(
        prompt=text,
        negative_prompt=negative_text,
        seed=seed,
        guidance=guidance,
        clip_skip=clip_skip,
        model=ModelRef(name=name or "x", family="sd1"),
    )
    found = infotext.parse_infotext(infotext.write(wanted))
    assert (found.prompt, found.negative_prompt) == (text, negative_text)
    assert found.pairs["Seed"] == str(seed) and float(found.pairs["CFG scale"]) == guidance
    assert found.pairs["Model"] == (name or "x")
    assert found.pairs.get("Clip skip", "1") == str(clip_skip)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_parsed_without_a_fall(text: str) -> None:
    infotext.parse_infotext(text)
    infotext.parse_infotext("\n" + text + ", Steps: 1, Seed: 2, Size: 1x1")


@pytest.mark.parametrize("piece", ["a", "a:", ",", '"', 'ab: "', 'ab: "\\",', "a b ", "\\", ": ", "ab:,", "\n", "é"])
def test_hostile_text_takes_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        began = time.thread_time()
        infotext.parse_infotext(text)
        infotext.parse_infotext("x\n" + text)
        return time.thread_time() - began

    seconds(1000)
    short, long = min(seconds(10_000) for _ in range(3)), min(seconds(100_000) for _ in range(2))
    assert long < 60 * short + 0.05
