"""Regional prompts on tiny models: equal to what they must equal, and in no other job's way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import CLIPTextModel

from catalog.batching import batch_key
from catalog.files.folders import fingerprint
from catalog.guidance import GUIDANCE_METHODS
from catalog.models import ModelEntry
from contract.errors import InvalidInput, InvalidRecipe
from contract.parts import GuidanceMethod
from contract.recipe import Control, ImageRef, IpAdapter, ModelRef, Recipe
from contract.tasks import Generate
from contract.work import WorkDone, WorkFailed, WorkImage, WorkItem, path_key
from engine.adapters.prompt_encoder import EmbeddingCache
from engine.engine import Engine
from engine.images.preprocessors import Preprocessors
from engine.job_models import acquire
from engine.models.manager import ModelManager
from engine.pipeline import PassInputs, plan_image, run_pass
from engine.regions.places import region_places, shares_of
from tests.engine.conftest import CPU
from tests.engine.test_image_io import png
from tests.support.tiny_loras import ATTENTION, CONV, chosen, kohya, kohya_xl, make, turn

ALL = {"left": 0.0, "top": 0.0, "width": 1.0, "height": 1.0}
LEFT = {**ALL, "width": 0.5}
RIGHT = {**LEFT, "left": 0.5}
Run = Callable[..., Tensor]
Regional = Callable[..., Recipe]


@pytest.fixture
def regional(make_recipe: Callable[..., Recipe]) -> Regional:
    """A recipe with regions: (prompt, box or mask, further fields)."""

    def make_it(
        *regions: tuple[str, Any, dict[str, Any]],
        base: float = 0.2,
        common: bool = True,
        kind: str = "sd1",
        **more: Any,
    ) -> Recipe:
        parts = []
        for prompt, place, fields in regions:
            where = {"mask": place} if isinstance(place, ImageRef) else {"box": place}
            parts.append({"prompt": prompt, **where, **fields})
        return make_recipe(kind, **{"regions": {"base": base, "common": common, "regions": tuple(parts)}, **more})

    return make_it


@pytest.fixture
def run(entries: dict[str, ModelEntry], control_entries: dict[str, ModelEntry], models: ModelManager) -> Run:
    """The last latents of the recipe's one image."""
    cache = EmbeddingCache()

    def latents_of(
        recipe: Recipe, images: dict[str, bytes] | None = None, files: dict[str, Path] | None = None
    ) -> Tensor:
        known = {**entries, **control_entries}
        paths = {path_key(entry.ref): str(entry.path) for entry in known.values()}
        paths |= {path_key(ref): str((files or {})[ref.name]) for ref in recipe.models if ref.name in (files or {})}
        work_item = WorkItem("job", 1, Generate(recipe=recipe), images=images or {}, model_paths=paths)
        entry = next(entry for entry in entries.values() if entry.ref == recipe.model)
        with (
            models.lease(entry.ref, str(entry.path)) as bundle,
            acquire(recipe, work_item, models, Preprocessors((), CPU), bundle) as loaded,
        ):
            inputs = PassInputs(work_item.images, cache, lambda *_: iter(()), loaded)
            plan = plan_image(recipe, loaded.bundle, inputs)
            *_, last = run_pass(plan, recipe, inputs)
        return last.step.latents  # type: ignore[union-attr]

    return latents_of


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_one_region_of_the_whole_picture_is_its_prompt_alone(
    regional: Regional, make_recipe: Callable[..., Recipe], run: Run, kind: str
) -> None:
    region = ("a dog at night", ALL, {"negative_prompt": "sea"})
    alone = make_recipe(kind, prompt="a dog at night", negative_prompt="sea")
    plain = make_recipe(kind)
    assert difference(run(regional(region, base=0.0, common=False, kind=kind)), run(alone)) < 1e-5
    assert difference(run(regional(region, base=1.0, common=False, kind=kind)), run(plain)) < 1e-5
    assert difference(run(alone), run(plain)) > 1e-2


def test_common_words_stand_before_the_region_s_own(
    regional: Regional, make_recipe: Callable[..., Recipe], run: Run
) -> None:
    whole = make_recipe(prompt="a red cat at sea, a dog", negative_prompt="dog, sea")
    assert difference(run(regional(("a dog", ALL, {"negative_prompt": "sea"}), base=0.0)), run(whole)) < 1e-5
    same = regional(("", ALL, {}), base=0.0)
    assert difference(run(same), run(make_recipe())) < 1e-5


def test_each_side_follows_its_own_prompt_and_weights_are_shares(regional: Regional, run: Run) -> None:
    def sides(left: str, right: str, **more: Any) -> Tensor:
        return run(regional((left, LEFT, more), (right, RIGHT, {}), base=0.0, common=False, steps=1, width=192))

    cats, mixed = sides("cat", "cat"), sides("cat", "dog")
    apart = (cats - mixed).abs().mean(dim=(0, 1, 2))
    assert apart[16:].mean() > 2 * apart[:8].mean() > 0  # convolutions and self-attention see across the border
    assert difference(sides("cat", "dog", weight=0.0), mixed) > 1e-4


def test_what_lies_outside_or_weighs_nothing_changes_nothing(
    regional: Regional, make_recipe: Callable[..., Recipe], run: Run
) -> None:
    plain = run(make_recipe())
    assert difference(run(regional(("dog", ALL, {"weight": 0.0}))), plain) < 1e-5
    assert difference(run(regional(("dog", ALL, {"weight": 0.0}), base=0.0)), plain) < 1e-5
    start, images = png(Image.new("RGB", (64, 64), "gray"))
    drawn = Image.new("L", (64, 64))
    ImageDraw.Draw(drawn).rectangle((4, 4, 12, 12), fill=255)
    mask, brought = png(drawn)
    masked = {
        "init_image": {"image": start, "strength": 1.0},
        "mask": {"image": mask, "area": "masked", "padding": 4, "blur": 0},
    }
    corner = {"left": 0.6, "top": 0.6, "width": 0.4, "height": 0.4}
    inside = {"left": 0.0, "top": 0.0, "width": 0.4, "height": 0.4}
    pictures = {**images, **brought}
    whole = run(make_recipe(**masked), pictures)
    assert difference(run(regional(("dog", corner, {}), **masked), pictures), whole) < 1e-5
    near = run(regional(("dog", inside, {}), base=0.0, common=False, **masked), pictures)
    everywhere = run(regional(("dog", ALL, {}), base=0.0, common=False, **masked), pictures)
    assert difference(near, everywhere) < 1e-5 < 1e-2 < difference(near, whole)


def test_shares_sum_up_to_one_wherever_regions_overlap() -> None:
    masks = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(1))
    masks[:, 0] = 0
    masks[:, 1] = 1
    shares = shares_of(masks, torch.tensor([1.0, 0.5, 2.0]), 0.2)
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(5, 7))
    torch.testing.assert_close(shares[0, 0], torch.ones(7))
    torch.testing.assert_close(shares[1:, 1, 0] / shares[1, 1, 0], torch.tensor([1.0, 0.5, 2.0]))
    equal = shares_of(torch.ones(2, 1, 1), torch.ones(2), 0.2)
    torch.testing.assert_close(equal.flatten(), torch.tensor([0.2, 0.4, 0.4]))


def test_masks_of_any_size_are_brought_to_every_grid(regional: Regional) -> None:
    drawn = Image.new("RGBA", (333, 201))
    ImageDraw.Draw(drawn).rectangle((0, 0, 165, 200), fill="white")
    mask, images = png(drawn)
    recipe = regional(("dog", mask, {}), ("cat", RIGHT, {}), base=0.0, width=88, height=72)
    places = region_places(recipe, images, 8)
    assert places.masks.shape == (2, 9, 11)
    assert places.masks[0, :, :5].min() == 1 and places.masks[0, :, 6:].max() == 0  # transparent is black
    assert torch.equal(places.masks[1, 0], torch.tensor([0, 0, 0, 0, 0, 0.5, 1, 1, 1, 1, 1]))
    for tokens in (99, 30, 9, 4):  # 9 × 11, 5 × 6, 3 × 3, 2 × 2
        total = torch.zeros(tokens, 1)
        for acting in places.prompts_on(tokens):
            if acting is not None:
                total[slice(None) if acting.indices is None else acting.indices] += acting.shares
        torch.testing.assert_close(total, torch.ones(tokens, 1))


def test_an_empty_mask_is_refused_by_its_number(regional: Regional) -> None:
    empty, images = png(Image.new("L", (64, 64)))
    with pytest.raises(InvalidInput, match="mask of region 2 is empty") as refused:
        region_places(regional(("cat", ALL, {}), ("dog", empty, {})), images, 8)
    assert refused.value.field == "regions.regions.1.mask"


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_region_s_lora_over_the_whole_picture_equals_one_that_is_merged(
    regional: Regional,
    make_recipe: Callable[..., Recipe],
    entries: dict[str, ModelEntry],
    run: Run,
    tmp_path: Path,
    kind: str,
) -> None:
    path = entries[kind].path
    encoders = [name for name in ("text_encoder", "text_encoder_2") if (path / name).is_dir()]
    parts = {name: CLIPTextModel.from_pretrained(str(path / name)) for name in encoders}
    parts["unet"] = UNet2DConditionModel.from_pretrained(str(path / "unet"))
    name_of = kohya_xl if kind == "sdxl" else kohya
    for name, endings, tolerance in (("all", CONV, 2e-4), ("attention", ATTENTION, 2e-4), ("turned", ATTENTION, 2e-4)):
        made = (turn if name == "turned" else make)(chosen(parts, endings), name_of)
        file = made.save(tmp_path / f"{name}.safetensors")
        ref = ModelRef(kind="lora", name=name, family=kind, fingerprint=fingerprint(tmp_path, (file,)))
        lora = {"model": ref, "weight": 0.4, "text_weight": 0.7}
        merged = make_recipe(kind, prompt="a dog", loras=(lora,))
        region = ("a dog", ALL, {"loras": (lora,)})
        alone = regional(region, base=0.0, common=False, kind=kind)
        files = {name: file}
        found, wanted, plain = run(alone, files=files), run(merged, files=files), run(make_recipe(kind, prompt="a dog"))
        assert difference(wanted, plain) > 1e-2
        assert difference(found, wanted) < tolerance * float(wanted.abs().max())
        assert difference(run(make_recipe(kind, prompt="a dog")), plain) == 0
        # Where the region isn't, the LoRA isn't.
        none = regional(("a dog", LEFT, {"loras": (lora,), "weight": 0.0}), base=0.0, kind=kind)
        assert difference(run(none, files=files), run(make_recipe(kind))) < 1e-5


def test_what_has_no_place_in_a_picture_can_t_act_in_one_region(
    regional: Regional, entries: dict[str, ModelEntry], run: Run, tmp_path: Path
) -> None:
    unet = UNet2DConditionModel.from_pretrained(str(entries["sd1"].path / "unet"))
    file = make(chosen({"unet": unet}, ("time_embedding.linear_1",)), kohya).save(tmp_path / "clock.safetensors")
    ref = ModelRef(kind="lora", name="clock", family="sd1", fingerprint=fingerprint(tmp_path, (file,)))
    with pytest.raises(InvalidRecipe, match="“clock” can't act in one region: it changes time_embedding") as refused:
        run(regional(("dog", LEFT, {"loras": ({"model": ref},)})), files={"clock": file})
    assert refused.value.field == "regions.regions.0.loras.0.model"


def test_prompts_that_change_are_read_step_by_step_and_and_goes_with_the_picture_s_own(
    regional: Regional, make_recipe: Callable[..., Recipe], run: Run
) -> None:
    edited = regional(("[dog:sea:0.5] [cat|dog]", ALL, {}), base=0.0, common=False, steps=4)
    assert difference(run(edited), run(make_recipe(prompt="[dog:sea:0.5] [cat|dog]", steps=4))) < 1e-5
    composed = regional(("dog", ALL, {}), base=0.0, prompt="cat AND sea :0.5")
    wanted = make_recipe(prompt="cat, dog AND sea, dog :0.5")
    assert difference(run(composed), run(wanted)) < 1e-5
    with pytest.raises(InvalidRecipe, match="Region 1 has several prompts") as refused:
        run(regional(("dog AND cat", ALL, {})))
    assert refused.value.field == "regions.regions.0.prompt"


def test_prompts_of_other_lengths_go_together(regional: Regional, make_recipe: Callable[..., Recipe], run: Run) -> None:
    long = "a dog at sea, " * 40
    recipe = regional((long, ALL, {}), base=0.0, common=False)
    assert difference(run(recipe), run(make_recipe(prompt=long))) < 1e-5


METHODS = [row for row in GUIDANCE_METHODS.values() if "unet" in row.denoisers and row.suits_regions]


@pytest.mark.parametrize("method", METHODS, ids=lambda row: row.id)
def test_every_method_of_guidance_sees_the_regions(
    regional: Regional, make_recipe: Callable[..., Recipe], run: Run, method: Any
) -> None:
    used = {"guidance_methods": (GuidanceMethod(id=method.id),)}
    whole = regional(("a dog", ALL, {"negative_prompt": "sea"}), base=0.0, common=False, **used)
    alone = make_recipe(prompt="a dog", negative_prompt="sea", **used)
    assert difference(run(whole), run(alone)) < 1e-4


def test_controls_adapters_and_a_hires_pass_go_with_regions(
    regional: Regional, make_recipe: Callable[..., Recipe], control_entries: dict[str, ModelEntry], run: Run
) -> None:
    drawn, images = png(Image.effect_noise((64, 64), 60).convert("RGB"))
    with_all = {
        "controls": tuple(Control(image=drawn, model=control_entries[name].ref) for name in ("canny", "sketch")),
        "ip_adapters": (IpAdapter(image=drawn, model=control_entries["picture"].ref),),
        "hires": {"scale": 1.5, "strength": 0.7, "prompt": "a cat"},
    }
    recipe = regional(("dog", LEFT, {}), ("sea", RIGHT, {}), **with_all)
    made = run(recipe, images)
    assert made.shape == (1, 4, 12, 12) and made.isfinite().all()
    assert difference(made, run(make_recipe(**with_all), images)) > 1e-3
    idle = regional(("dog", LEFT, {"weight": 0.0}), **with_all)
    assert difference(run(idle, images), run(make_recipe(**with_all), images)) < 1e-5
    # The hires pass's own prompt stands before the regions', and takes the base's place.
    whole = regional(("dog", ALL, {}), base=0.0, hires=with_all["hires"])
    wanted = make_recipe(prompt="a red cat at sea, dog", hires={**with_all["hires"], "prompt": "a cat, dog"})
    assert difference(run(whole), run(wanted)) < 1e-5


def test_a_job_with_regions_runs_alone_and_leaves_the_model_as_it_was(
    engine: Engine,
    regional: Regional,
    make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., WorkItem],
) -> None:
    def painted(recipe: Recipe) -> bytes:
        events = list(engine.generate(make_work_item(recipe), lambda: False))
        assert isinstance(events[-1], WorkDone), events[-1]
        return next(event.pixels.rgb for event in events if isinstance(event, WorkImage))

    plain = painted(make_recipe())
    there = regional(("dog", LEFT, {}), ("sea", RIGHT, {}))
    first = painted(there)
    assert first != plain and painted(make_recipe()) == plain
    # What was recorded or traced for the plain U-Net must not stand in for one with regions.
    while engine.tidy():
        pass
    assert painted(make_recipe()) is not None and painted(there) == first
    assert batch_key(Generate(recipe=there)) is None is not batch_key(Generate(recipe=make_recipe()))


def test_a_failure_within_a_region_leaves_no_trace(
    engine: Engine,
    regional: Regional,
    make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., WorkItem],
) -> None:
    gone = ImageRef(sha256="a" * 64)
    failed = list(engine.generate(make_work_item(regional(("dog", gone, {}))), lambda: False))[-1]
    assert isinstance(failed, WorkFailed) and failed.code == "upload_gone"
    edit = make_recipe("edit", init_image={"image": gone})
    refused = regional(("dog", ALL, {}), kind="edit", init_image=edit.init_image)
    ending = list(engine.generate(make_work_item(refused), lambda: False))[-1]
    assert isinstance(ending, WorkFailed) and ending.field == "regions"
    assert isinstance(list(engine.generate(make_work_item(make_recipe()), lambda: False))[-1], WorkDone)


def test_a_repeated_prompt_of_a_region_calls_no_text_encoder(
    regional: Regional, entries: dict[str, ModelEntry], models: ModelManager
) -> None:
    cache = EmbeddingCache()
    recipe = regional(("dog", LEFT, {}), ("sea", RIGHT, {}))
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        inputs = PassInputs({}, cache, lambda *_: iter(()))
        plan_image(recipe, bundle, inputs)
        calls = []
        encoder = bundle.modules["text_encoder"]
        hook = encoder.register_forward_hook(lambda *_: calls.append(1))
        plan_image(replace_seed(recipe), bundle, inputs)
        hook.remove()
    assert not calls


def replace_seed(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"seed": recipe.seed + 1})
