"""LoRAs, hypernetworks, embeddings and a VAE: listed or named in the prompts, found, refused in one sentence."""

from pathlib import Path

import pytest

from catalog.models import ModelEntry
from contract.errors import InvalidRecipe, ModelProblem, StudioError
from contract.parts import MAX_LORAS
from contract.recipe import ModelKind, ModelRef, Recipe, RecipeDraft
from studio.library.model_list import ModelList
from studio.resolve.draft import Resolved, resolve
from studio.resolve.model_finder import Finder
from tests.studio.conftest import draft


def entry(kind: ModelKind, name: str, family: str = "sd1", **more: object) -> ModelEntry:
    ref = ModelRef(kind=kind, name=name, family=family, fingerprint=f"{kind}-{name}")
    return ModelEntry(ref, Path(name), title=name.rsplit("/", 1)[-1].capitalize(), **more)  # type: ignore[arg-type]


class Shelf(ModelList):
    """A list that reads no disk."""

    def __init__(self, *entries: ModelEntry) -> None:
        super().__init__(())
        self._here = entries

    def all(self, *, fresh: bool = False) -> tuple[ModelEntry, ...]:
        return self._here


@pytest.fixture(scope="module")
def models() -> ModelList:
    return Shelf(
        entry("checkpoint", "starter"),
        entry("checkpoint", "large", "sdxl"),
        entry("lora", "ink"),
        entry("lora", "oil"),
        entry("lora", "ink_xl", "sdxl"),
        entry("lora", "odd", "unknown"),
        entry("lora", "broken", problem="broken.safetensors is cut off.", hint="Copy it again."),
        entry("hypernetwork", "bend"),
        entry("vae", "soft"),
        entry("vae", "flux_vae", "flux"),
        entry("embedding", "neg/easy-bad"),
        entry("embedding", "style"),
        entry("embedding", "style_long"),
        entry("embedding", "wide", "sdxl"),
        entry("embedding", "bad (v2)"),
    )


def resolved(models: ModelList, prompt: str = "a barn", model: str = "starter", **fields: object) -> Resolved:
    return resolve(draft(prompt, model=model, **fields), with_hashes(models), max_pixels=2048**2)


def with_hashes(models: ModelList) -> Finder:
    return Finder(models, lambda found: found.ref.name.encode().hex().ljust(64, "0")[:64])


def loras(recipe: Recipe) -> list[tuple[object, ...]]:
    return [(lora.model.name, lora.weight, lora.text_weight, len(lora.blocks)) for lora in recipe.loras]


@pytest.mark.parametrize(
    ("prompt", "left", "found"),
    [
        ("a barn <lora:ink:0.8>", "a barn", [("ink", 0.8, None, 0)]),
        ("<LoRA:Ink> a barn", "a barn", [("ink", 1.0, None, 0)]),
        ("a <lyco:ink:-0.5> barn <lora:oil:.5:0.25>", "a barn", [("ink", -0.5, None, 0), ("oil", 0.25, 0.5, 0)]),
        ("<lora:ink:te=0.5:unet=0.7>a", "a", [("ink", 0.7, 0.5, 0)]),
        ("<lora:ink:te=0.5>a", "a", [("ink", 0.5, None, 0)]),
        ("<lora:ink:0.5:unet=1>a", "a", [("ink", 1.0, 0.5, 0)]),
        ("<lora:ink.safetensors:1>a", "a", [("ink", 1.0, None, 0)]),
        ("<lora:ink:1:lbw=INS>a", "a", [("ink", 1.0, None, 17)]),
        (f"<lora:ink:1:{','.join(['0.5'] * 26)}>a", "a", [("ink", 1.0, None, 26)]),
        ("(a <lora:ink:1>:1.2) <b:c>", "(a:1.2) <b:c>", [("ink", 1.0, None, 0)]),
    ],
)
def test_tags_become_loras_and_leave_the_prompt(
    models: ModelList, prompt: str, left: str, found: list[tuple[object, ...]]
) -> None:
    recipe = resolved(models, prompt).recipe
    assert (recipe.prompt, loras(recipe)) == (left, found)
    assert recipe.loras[0].model.fingerprint == "lora-ink" and recipe.loras[0].model.sha256


def test_every_prompt_is_looked_through_and_lists_come_first(models: ModelList) -> None:
    recipe = resolved(
        models,
        "a <lora:oil:0.2>",
        negative_prompt="b <hypernet:bend:0.3>",
        hires={"prompt": "c <lora:odd:0.1>", "negative_prompt": "d"},
        loras=({"model": "ink", "weight": 0.9},),
    ).recipe
    assert loras(recipe) == [("ink", 0.9, None, 0), ("oil", 0.2, None, 0), ("odd", 0.1, None, 0)]
    assert [(net.model.name, net.weight) for net in recipe.hypernetworks] == [("bend", 0.3)]
    assert recipe.hires is not None
    assert (recipe.prompt, recipe.negative_prompt, recipe.hires.prompt, recipe.hires.negative_prompt) == tuple("abcd")


def test_lr13_the_same_lora_twice_is_one_with_a_notice(models: ModelList) -> None:
    found = resolved(models, "a <lora:ink:0.5> <lora:INK:0.25:0.75>", loras=({"model": "ink", "weight": 0.25},))
    assert loras(found.recipe) == [("ink", 1.5, 1.0, 0)]
    assert found.notices == (("named_twice", "LoRA “ink” is named 3 times: its weights were added to 1.5."),)
    blocks = resolved(models, "a <lora:ink:0.5> <lora:ink:0.5:lbw=OUTS>")
    assert loras(blocks.recipe) == [("ink", 0.5, None, 0), ("ink", 0.5, None, 17)] and not blocks.notices
    with pytest.raises(InvalidRecipe, match="named twice; its weights add up to 16|named 2 times"):
        resolved(models, "a <lora:ink:8> <lora:ink:8>")


@pytest.mark.parametrize(
    ("prompt", "model", "message", "hint"),
    [
        ("<lora:inc:1>", "starter", "LoRA “inc” is not here.", "Near: ink."),
        ("<lora:zzzzzz:1>", "starter", "LoRA “zzzzzz” is not here.", "Put it into models/loras/, or leave it out."),
        (
            "<hypernet:ink:1>",
            "starter",
            "Hypernetwork “ink” is not here.",
            "Put it into models/hypernetworks/, or leave it out.",
        ),
        (
            "<lora:ink_xl:1>",
            "starter",
            "LoRA “Ink_xl” is for SDXL; Starter is SD 1.x.",
            "Choose an SDXL model or remove it.",
        ),
        ("<lora:ink:1>", "large", "LoRA “Ink” is for SD 1.x; Large is SDXL.", "Choose an SD 1.x model or remove it."),
        ("<lora:ink:much>", "starter", "The weight of LoRA “ink” is “much”.", "Use a number, -10 to 10."),
        ("<lora:ink:0@0.2>", "starter", "The weight of LoRA “ink” is “0@0.2”.", "Use a number, -10 to 10."),
        ("<lora:ink:nan>", "starter", "The weight of LoRA “ink” is “nan”.", "Use a number, -10 to 10."),
        ("<lora:ink:te=11>", "starter", "The weight of LoRA “ink” is “11”.", "Use a number, -10 to 10."),
        (
            "<lora:ink:1:dyn=4>",
            "starter",
            "“dyn=” of LoRA “ink” is not known.",
            "Use <lora:name:0.8>, <lora:name:te=0.5:unet=0.8> or lbw=.",
        ),
        (
            "<lora:ink:1:2:3>",
            "starter",
            "“1:2:3” of LoRA “ink” is not known.",
            "Use <lora:name:0.8>, <lora:name:te=0.5:unet=0.8> or lbw=.",
        ),
        (
            "<lora:ink:1:lbw=1,0>",
            "starter",
            "LoRA “ink” has 2 block weights.",
            "Use 12, 17, 20 or 26 of them, or one of NONE, ALL, INS, IND, INALL, MIDD, OUTD, OUTS, OUTALL.",
        ),
        ("wide", "starter", "Embedding “Wide” is for SDXL; Starter is SD 1.x.", "Choose an SDXL model or remove it."),
    ],
)
def test_what_can_not_be_used_is_refused_in_one_sentence(
    models: ModelList, prompt: str, model: str, message: str, hint: str
) -> None:
    with pytest.raises(InvalidRecipe) as refused:
        resolved(models, prompt, model)
    assert (refused.value.message, refused.value.hint, refused.value.code) == (message, hint, "invalid_prompt")


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", r"..\x", "C:/x", "~/x", "a/../b", "./x", "x\0y"])
def test_lr15_paths_are_no_names(models: ModelList, name: str) -> None:
    for fields in ({"prompt": f"<lora:{name}:1>"}, {"loras": ({"model": name},)}):
        if name == "C:/x" and "prompt" in fields:
            continue  # the colon ends a tag's name
        with pytest.raises(InvalidRecipe, match="is a path, not the name of a LoRA"):
            resolved(models, **fields)  # type: ignore[arg-type]


def test_lr16_a_lora_that_is_not_here_is_named_by_its_field(models: ModelList) -> None:
    for fields, code in (
        ({"loras": ({"model": "oyl"},)}, "invalid_loras_model"),
        ({"negative_prompt": "<lora:oyl:1>"}, "invalid_negative_prompt"),
        ({"hires": {"prompt": "<lora:oyl:1>"}}, "invalid_hires_prompt"),
        ({"hypernetworks": ({"model": "oyl"},)}, "invalid_hypernetworks_model"),
        ({"vae": "oyl"}, "invalid_vae"),
    ):
        with pytest.raises(InvalidRecipe, match="“oyl” is not here") as refused:
            resolved(models, **fields)  # type: ignore[arg-type]
        assert refused.value.code == code


def test_a_damaged_lora_says_its_reason_and_too_many_are_refused(models: ModelList) -> None:
    with pytest.raises(ModelProblem, match="cut off"):
        resolved(models, "<lora:broken:1>")
    many = Shelf(entry("checkpoint", "starter"), *(entry("lora", f"l{number}") for number in range(MAX_LORAS + 1)))
    with pytest.raises(InvalidRecipe, match="33 LoRAs are asked for"):
        resolved(many, "".join(f"<lora:l{number}:0.1>" for number in range(MAX_LORAS + 1)))


def test_embeddings_are_found_by_bare_name(models: ModelList) -> None:
    found = resolved(
        models,
        "a STYLE_LONG barn, (style:1.2), stylish",
        negative_prompt="easy-bad, embedding:style",
        hires={"prompt": r"bad \(v2\)"},
    ).recipe
    assert [ref.name for ref in found.embeddings] == ["style_long", "style", "neg/easy-bad", "bad (v2)"]
    assert found.prompt == "a STYLE_LONG barn, (style:1.2), stylish"
    assert resolved(models, "a pastyle style-like barn").recipe.embeddings == ()


def test_a_vae_fits_families_of_as_many_channels(models: ModelList) -> None:
    assert resolved(models, vae="Soft").recipe.vae == resolved(models, model="large", vae="soft").recipe.vae
    assert resolved(models, vae="soft").recipe.models[1].kind == "vae"


def test_a_recipe_is_a_draft_that_resolves_to_itself(models: ModelList) -> None:
    first = resolved(models, "a style <lora:ink:0.5:0.8> <hypernet:bend:0.2>", vae="soft", seed=3).recipe
    again = resolve(RecipeDraft.model_validate_json(first.canonical_json()), with_hashes(models), max_pixels=2048**2)
    assert again.recipe == first and not again.notices


def test_another_file_of_the_same_name_is_told(models: ModelList) -> None:
    other = {"kind": "lora", "name": "ink", "family": "sd1", "sha256": "f" * 64}
    found = resolved(models, loras=({"model": other},))
    assert found.notices == (
        ("other_model", "LoRA “Ink” is not the same file as the “ink” of this recipe; the picture can differ."),
    )
    with pytest.raises(StudioError, match="LoRA “gone” is not here"):
        resolved(models, loras=({"model": other | {"name": "gone"}},))
