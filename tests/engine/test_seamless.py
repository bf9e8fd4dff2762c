"""Seamless tiling: whatever is computed commutes with rolling the image around, along the axes that wrap and no other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from catalog.batching import batch_key
from catalog.models import ModelEntry, describe
from contract.parts import Control
from contract.recipe import ImageRef, Recipe
from contract.tasks import Generate
from contract.values import Tiling
from contract.work import WorkImage, WorkItem, path_key
from engine.adapters.controlnet import Unit, controls_of
from engine.device import tracing
from engine.device.evaluations import by_modules
from engine.device.wrapped_padding import WrappedCall, wrapped, wrapped_padding
from engine.engine import Engine, EngineOptions
from engine.families.unet import UNetCall, predict_with
from engine.images import vae
from engine.images.image_io import as_image
from engine.images.init_latents import stretch_latents
from engine.images.previews import PreviewMaker
from engine.images.seams import across_seams, continued_image, folded_image, margins
from engine.images.taesd import TinyDecoder
from engine.models.manager import ModelManager
from engine.sampling.denoise import Conditions, ControlResiduals

Make = Callable[..., Any]
TILINGS: tuple[Tiling | None, ...] = (None, "x", "y", "xy")
DIMS = {"x": -1, "y": -2}


def check_rolls(
    evaluate: Callable[[Tensor], Tensor], values: Tensor, by: int, out_by: int, tiling: Tiling | None, atol: float
) -> None:
    """Along each axis, the result of rolled values is the rolled result if that axis wraps, and only then."""
    plain = evaluate(values)
    for axis, dim in DIMS.items():
        difference = (evaluate(values.roll(by, dim)) - plain.roll(out_by, dim)).abs().max()
        assert (difference <= atol) == (axis in (tiling or "")), (axis, float(difference))


@pytest.mark.parametrize("tiling", TILINGS)
def test_a_convolution_wraps_whatever_its_form(tiling: Tiling | None) -> None:
    drawn = torch.Generator().manual_seed(1)
    values = torch.randn(2, 4, 8, 12, generator=drawn)
    layers = [
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, (5, 3), padding=(2, 1), dilation=1),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2, bias=False),
        lambda one: functional.conv2d(functional.pad(one, (0, 1, 0, 1)), torch.ones(4, 4, 3, 3), stride=2),
    ]
    for layer, out_by in zip(layers, (2, 2, 1, 1), strict=True):

        def evaluate(one: Tensor, layer: Callable[[Tensor], Tensor] = layer) -> Tensor:
            with torch.inference_mode(), wrapped_padding(tiling):
                return layer(one)

        check_rolls(evaluate, values, 2, out_by, tiling, 1e-5)
        last = values.to(memory_format=torch.channels_last)
        torch.testing.assert_close(evaluate(last), evaluate(values))
    with wrapped_padding(tiling):
        flat = functional.pad(values[0, 0], (1, 1))  # no map
    assert not flat[:, 0].any()
    torch.testing.assert_close(functional.pad(values, (1, 1))[..., 0], torch.zeros(2, 4, 8))  # and nothing stays


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("in_float32", [False, True])
def test_a_u_net_commutes_with_rolling(
    tiling: Tiling | None, in_float32: bool, models: ModelManager, entries: dict[str, ModelEntry]
) -> None:
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as own:
        bundle = replace(own, tiling=tiling)
        evaluate = wrapped(by_modules(bundle.onload), tiling) if in_float32 else bundle.evaluate
        predict = predict_with(bundle.onload, torch.float32, in_float32=in_float32, evaluate=evaluate)
        drawn = torch.Generator().manual_seed(2)
        conditions = Conditions(torch.randn(1, 77, 32, generator=drawn))
        latents = torch.randn(1, 4, 8, 8, generator=drawn)
        with torch.inference_mode():
            check_rolls(lambda x: predict(x, torch.tensor(500), conditions, None), latents, 2, 2, tiling, 1e-5)


@pytest.mark.parametrize("tiling", TILINGS)
def test_a_vae_commutes_with_rolling(
    tiling: Tiling | None, models: ModelManager, entries: dict[str, ModelEntry]
) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as own:
        bundle = replace(own, tiling=tiling)
        latents = vae.encode(pixels, bundle)

        def decoded(x: Tensor) -> Tensor:
            return torch.from_numpy(np.array(as_image(vae.decode(x, bundle)[0]))).permute(2, 0, 1).float()

        def encoded(image: Tensor) -> Tensor:
            return vae.encode(image.permute(1, 2, 0).numpy(), bundle)

        check_rolls(decoded, latents, 3, 24, tiling, 1.0)  # of 255
        check_rolls(encoded, torch.from_numpy(pixels).permute(2, 0, 1), 16, 2, tiling, 1e-4)


@pytest.mark.parametrize("tiling", ["x", "y", "xy"])
def test_a_control_net_commutes_with_rolling(
    tiling: Tiling, models: ModelManager, control_entries: dict[str, ModelEntry]
) -> None:
    """By its bundle, and the net itself where it is kept from the negative prompt."""
    entry, drawn = control_entries["canny"], torch.Generator().manual_seed(4)
    hint, latents = torch.rand(1, 3, 64, 64, generator=drawn), torch.randn(2, 4, 8, 8, generator=drawn)
    conditions = Conditions(torch.randn(2, 77, 32, generator=drawn), is_guided=True)
    with models.lease(entry.ref, str(entry.path)) as held, torch.inference_mode():
        (net,) = held.modules.values()
        for mode in ("balanced", "control"):
            control = Control(model=entry.ref, image=ImageRef(sha256="0" * 64), mode=mode)

            def residuals(hint: Tensor, latents: Tensor, control: Control = control) -> ControlResiduals:
                unit = Unit(control, net, hint, None, (), wrapped(held.evaluate, tiling), tiling)
                controls = controls_of([unit], held)
                found = controls(latents, torch.tensor(500), conditions, (0.0, 0.1)) if controls else None
                assert found is not None and found.mid_block is not None
                return found

            plain = residuals(hint, latents)
            for axis, dim in DIMS.items():
                rolled = residuals(hint.roll(16, dim), latents.roll(2, dim))
                pairs = [(rolled.down_block[0], plain.down_block[0].roll(2, dim))]
                pairs += [(rolled.mid_block, plain.mid_block.roll(1, dim))]
                for ours, expected in pairs:
                    assert torch.allclose(ours, expected, atol=1e-5) == (axis in tiling)


@pytest.mark.parametrize("upscaler", ["latent", "latent_bicubic_antialiased", "latent_nearest_exact"])
@pytest.mark.parametrize("tiling", TILINGS)
def test_stretched_latents_commute_with_rolling(tiling: Tiling | None, upscaler: str) -> None:
    latents = torch.randn(1, 4, 12, 16, generator=torch.Generator().manual_seed(5))

    def stretched(x: Tensor) -> Tensor:
        return stretch_latents(x, upscaler, (18, 24), tiling)  # 1.5 times

    if upscaler == "latent_nearest_exact":  # which looks at no neighbor, so that it wraps anyway
        torch.testing.assert_close(stretched(latents.roll(2, -1)), stretched(latents).roll(3, -1))
        return
    check_rolls(stretched, latents, 2, 3, tiling, 1e-5)


@pytest.mark.parametrize(("sides", "target"), [((16, 24), (32, 48)), ((64, 48), (8, 6)), ((24, 24), (36, 60))])
def test_what_sees_no_other_side_fits_by_its_seams(sides: tuple[int, int], target: tuple[int, int]) -> None:
    """Something local that is told of no wrap gives what it would give of an image without ends."""
    values = torch.randn(1, 1, sides[1], sides[0], generator=torch.Generator().manual_seed(6))

    def local(one: Tensor) -> Tensor:
        size = (one.shape[-2] * target[1] // sides[1], one.shape[-1] * target[0] // sides[0])
        return functional.interpolate(one, size=size, mode="bilinear", align_corners=False, antialias=True)

    endless = local(values.repeat(1, 1, 3, 3))[..., target[1] : 2 * target[1], target[0] : 2 * target[0]]
    torch.testing.assert_close(across_seams(local, values, "xy", target, 16), endless)
    before, after = margins("x", sides, target, 16)
    assert before[1] == after[1] == 0 and before[0] * target[0] == after[0] * sides[0]


def test_views_of_both_sides_of_a_seam_fade() -> None:
    """Where the two views differ (tiles of a VAE have other means), no step is left at either end of the fade."""
    ramp = torch.linspace(0, 1, 64 + 32).repeat(8, 1)  # something that is wrong by one over the whole width
    image = Image.fromarray((ramp * 255).byte().numpy()).convert("RGB")
    made = np.array(folded_image(image, (16, 0))).astype(int)
    assert made.shape == (8, 64, 3)
    assert np.abs(np.diff(np.concatenate([made, made[:, :1]], axis=1), axis=1)).max() <= 20 < 64 * 255 // 96
    assert np.array_equal(np.array(continued_image(image, (0, 2)))[:2], np.array(image)[-2:])


@pytest.mark.parametrize("tiling", ["x", "xy"])
def test_tiles_of_a_large_image_fit(
    tiling: Tiling, models: ModelManager, entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smooth latents that wrap, decoded in tiles of 64 pixels: no larger step across the border than elsewhere."""
    monkeypatch.setattr(vae, "TILED_FROM", 0)
    monkeypatch.setattr(vae, "_TILE", 64)
    monkeypatch.setattr(vae, "_SEAM", 32)
    y, x = torch.meshgrid(torch.arange(16) / 16, torch.arange(16) / 16, indexing="ij")
    wave = torch.stack([torch.sin(2 * torch.pi * (x + phase)) + torch.cos(2 * torch.pi * y) for phase in (0, 1, 2, 3)])
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as own:
        steps = {}
        for name in (None, tiling):
            pixels = np.array(as_image(vae.decode(wave[None], replace(own, tiling=name))[0])).astype(float)
            assert pixels.shape == (128, 128, 3)
            steps[name] = np.abs(pixels - np.roll(pixels, 1, axis=1)).mean(axis=(0, 2))
    assert steps[tiling][0] <= 1.5 * steps[tiling][1:].max()
    assert steps[None][0] > steps[tiling][0]


def test_a_preview_by_a_tiny_decoder_wraps(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    decoder = TinyDecoder(nn.Conv2d(4, 3, 3, padding=1).requires_grad_(False), 4, torch.float32)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as own:

        def preview(x: Tensor) -> Tensor:
            copy = PreviewMaker().begin(x, replace(own, tiling="x"), decoder, side=None)
            return copy.value().permute(2, 0, 1).float()

        check_rolls(preview, latents, 3, 3, "x", 1.0)


def test_calls_are_told_apart_by_their_axes() -> None:
    """As evaluators keep them: traces, CUDA graphs, what is compiled, and OpenVINO's files by the text of a call."""
    calls = [
        UNetCall(),
        WrappedCall(UNetCall(), "x"),
        WrappedCall(UNetCall(), "xy"),
        WrappedCall(vae.decode_whole, "x"),
    ]
    assert len(set(calls)) == 4 and WrappedCall(UNetCall(), "x") in calls
    assert repr(calls[3]) == "decode_whole, wrapped around x"
    assert len({repr(one) for one in calls}) == 4


def test_jobs_of_other_axes_share_no_batch(make_recipe: Make) -> None:
    keys = {batch_key(Generate(recipe=make_recipe(tiling=tiling))) for tiling in TILINGS}
    assert len(keys) == 4 and None not in keys


def test_a_trace_of_another_tiling_is_not_used(
    tmp_path: Path, make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of all tilings in turn, before and after idle time: the same bits as each alone, and each its own."""
    monkeypatch.setattr(tracing, "_LONGEST_S", 1000.0)
    monkeypatch.setattr(tracing, "_LEAST_GAIN", 1000.0)

    def picture(engine: Engine, tiling: Tiling | None) -> bytes:
        item: WorkItem = make_work_item(make_recipe(sampler="euler", tiling=tiling))
        (image,) = [one for one in engine.generate(item, lambda: False) if isinstance(one, WorkImage)]
        return image.pixels.rgb

    def fresh() -> Engine:
        return Engine(EngineOptions(device="cpu", threads=1, cache_dir=tmp_path, backend="torch"))

    tilings: tuple[Tiling | None, ...] = (None, "x")
    alone = {tiling: picture(fresh(), tiling) for tiling in tilings}
    assert len(set(alone.values())) == 2
    engine = fresh()
    for order in (tilings[:1], tilings, tilings):  # with traces of the plain job alone, then of both
        assert [picture(engine, tiling) for tiling in order] == [alone[tiling] for tiling in order]
        while engine.tidy():
            pass


@pytest.fixture(scope="module")
def steps_across() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Paints on the starter: the mean step from each column to the one before, the first's across the border; and rows."""
    entry = describe(Path(__file__).resolve().parents[2] / "models" / "starter", "starter")
    engine = Engine(EngineOptions(device="cpu", threads=1))

    def paint(**fields: object) -> tuple[np.ndarray, np.ndarray]:
        plain = {"prompt": "green hills at sunset", "sampler": "euler_a", "schedule": "automatic", "guidance": 4.0}
        plain |= {"steps": 5, "width": 128, "height": 128, "seed": 1, "model": entry.ref}
        recipe = Recipe.model_validate({**plain, **fields})
        item = WorkItem("job", 1, Generate(recipe=recipe), model_paths={path_key(entry.ref): str(entry.path)})
        (image,) = [one for one in engine.generate(item, lambda: False) if isinstance(one, WorkImage)]
        pixels = np.array(as_image(image.pixels)).astype(float)
        columns, rows = (np.abs(pixels - np.roll(pixels, 1, axis)).mean(axis=(1 - axis, 2)) for axis in (1, 0))
        return columns, rows

    return paint


@pytest.mark.parametrize(
    "fields",
    [{}, {"hires": {"scale": 1.5, "upscaler": "lanczos", "strength": 0.4, "steps": 4}}],
    ids=["one pass", "two passes"],
)
def test_a_picture_has_no_seam(
    fields: dict[str, object], steps_across: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    """Sky above, hills below: across the border the picture is as even as somewhere inside, where it is to be."""
    _, rows = steps_across(tiling="x", **fields)
    assert rows[0] > 2 * rows[1:].max()  # along the other axis nothing wraps
    columns, rows = steps_across(tiling="xy", **fields)
    assert rows[0] <= rows[1:].max() and columns[0] <= columns[1:].max()
