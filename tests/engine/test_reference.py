"""A picture that the result takes after: attention and statistics against their formulas, and what it goes with."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from catalog.models import ModelEntry, describe
from contract.parts import Control
from contract.recipe import Recipe
from contract.tasks import Generate
from contract.work import WorkItem, path_key
from engine.adapters.control_units import Unit
from engine.adapters.reference import Reference, attached_reference, noised
from engine.engine import Engine, EngineOptions
from engine.models.manager import ModelManager
from engine.sampling.denoise import Conditions
from engine.sampling.noise_table import make_noise_table
from tests.engine.test_guided_pictures import STARTER, image_of
from tests.parity.test_controls import HINT_REF, OTHER_REF, START_REF, our_latents
from tests.parity.test_start_pictures import png

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
BOTH = "reference_adain+attn"
KINDS = ("reference_only", "reference_adain", BOTH)
T = 300


def control(preprocessor: str, **more: object) -> Control:
    return Control.model_validate({"image": HINT_REF, "preprocessor": preprocessor, **more})


def make_conditions(unet: Any) -> Conditions:
    draw = torch.Generator().manual_seed(3)
    return Conditions(torch.randn(2, 77, unet.config.cross_attention_dim, generator=draw), is_guided=True)


def noisy_reference(hint: Tensor, config: Any) -> Tensor:
    """Latents of the picture with as much noise as timestep T has, by the scheduler's own table of alphas."""
    noise = torch.randn(hint.shape, generator=torch.Generator().manual_seed(0))
    sigma = float(make_noise_table(config).sigmas[T])
    alpha = 1 / (1 + sigma**2)
    return alpha**0.5 * hint + (1 - alpha) ** 0.5 * noise


class Direct:
    """The same written down with hooks alone: what layers see of the picture, then what they make of it."""

    def __init__(self, unet: nn.Module, fidelity: float) -> None:
        self.unet, self.fidelity = unet, fidelity
        self.seen: dict[str, Tensor] = {}

    def write(self, names: list[str], *inputs: Tensor) -> None:
        hooks = []
        for name in names:

            def keep(_: nn.Module, given: tuple[Tensor, ...], output: Any, name: str = name) -> None:
                out = output[0] if isinstance(output, tuple) else output
                self.seen[name] = given[0] if name.endswith("attn1") else out

            hooks.append(self.unet.get_submodule(name).register_forward_hook(keep))
        self.unet(*inputs)
        for hook in hooks:
            hook.remove()

    def read(self, *inputs: Tensor) -> Tensor:
        hooks = []
        for name in self.seen:
            module = self.unet.get_submodule(name)

            def change(
                module: Any, given: tuple[Tensor, ...], named: dict[str, Any], output: Any, name: str = name
            ) -> Any:
                bank = self.seen[name]
                if name.endswith("attn1"):
                    x = given[0]
                    with_bank = type(module).forward(module, x, encoder_hidden_states=torch.cat([x, bank], dim=1))
                    plain = output
                else:
                    plain = output[0] if isinstance(output, tuple) else output
                    mean, std = plain.mean((2, 3), keepdim=True), plain.std((2, 3), keepdim=True, unbiased=False)
                    to_mean, to_std = bank.mean((2, 3), keepdim=True), bank.std((2, 3), keepdim=True, unbiased=False)
                    with_bank = (plain - mean) / std * to_std + to_mean
                made = with_bank.clone()
                made[:1] = self.fidelity * plain[:1] + (1 - self.fidelity) * with_bank[:1]
                return (made, *output[1:]) if isinstance(output, tuple) else made

            hooks.append(module.register_forward_hook(change, with_kwargs=True))
        made: Tensor = self.unet(*inputs).sample
        for hook in hooks:
            hook.remove()
        return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mode", "fidelity"), [("balanced", 0.3), ("prompt", 0.0), ("control", 1.0)])
@torch.inference_mode()
def test_an_evaluation_is_the_published_formula(
    kind: str, mode: str, fidelity: float, entries: dict[str, ModelEntry], models: ModelManager
) -> None:
    draw = torch.Generator().manual_seed(5)
    batch, hint = torch.randn(2, 4, 8, 8, generator=draw), torch.randn(1, 4, 8, 8, generator=draw)
    t = torch.tensor(T)
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        unet: Any = bundle.modules["unet"]
        conditions = make_conditions(unet)
        with attached_reference(bundle) as net:
            net.look(Unit(control(kind, mode=mode, low=0.3), net, hint), batch, t, conditions, bundle)
            ours = unet(batch, t, conditions.prompt_embeds).sample
            names = [*(net.attentions if kind != "reference_adain" else ())]
            names += [name for name, least in net.features.items() if kind != "reference_only" and least < 1]
            net.forget()
            plain = unet(batch, t, conditions.prompt_embeds).sample
        stock = UNet2DConditionModel.from_pretrained(str(entries["sd1"].path / "unet"))
        assert torch.equal(plain, stock(batch, t, conditions.prompt_embeds).sample)
        direct = Direct(stock, fidelity)
        noisy = noisy_reference(hint, bundle.scheduler_config).expand(2, -1, -1, -1)
        direct.write(names, noisy, t, conditions.prompt_embeds)
        theirs = direct.read(batch, t, conditions.prompt_embeds)
    assert torch.allclose(ours, theirs, atol=1e-4) and not torch.allclose(ours, plain, atol=1e-3)


def test_layers_join_in_one_after_another_by_weight(entries: dict[str, ModelEntry]) -> None:
    """As A1111's: the widest attention first, of features the middle, and as many of LDM's blocks as it has."""
    with torch.device("meta"):
        unet = UNet2DConditionModel()  # SD 1.x
    net = Reference(unet)
    assert len(net.attentions) == 16 and list(net.attentions.values()) == [number / 16 for number in range(16)]
    widths = [unet.get_submodule(name).to_q.in_features for name in net.attentions]
    assert widths == sorted(widths, reverse=True)
    assert next(iter(net.attentions)).startswith("down_blocks.2")
    down = [name for name in net.features if name.startswith("down_blocks.")]
    up = [name for name in net.features if name.startswith("up_blocks.")]
    assert down == [
        f"down_blocks.{block}.{layer}.{number}"
        for block, layer in ((1, "attentions"), (2, "attentions"), (3, "resnets"))
        for number in (0, 1)
    ]
    assert len(up) == 8 and up[2] == "up_blocks.0.upsamplers.0" and up[3] == "up_blocks.1.attentions.0"
    assert net.features["mid_block"] == 0 and net.features[down[0]] == 2 and net.features[up[0]] == 0


@pytest.mark.parametrize("sigma", [0.05, 1.3, 60.0])
def test_the_picture_is_as_noisy_as_the_models_input(sigma: float) -> None:
    """Scaled as samplers scale latents for the model, of table 1 of EDM's paper too."""
    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    edm = make_noise_table(dict(EDMEulerScheduler(sigma_data=0.5).config))
    t = torch.tensor(float(edm.timesteps_at(np.array(sigma))))
    assert torch.allclose(noised(x0, noise, t, edm), (x0 + sigma * noise) / (0.25 + sigma**2) ** 0.5, atol=1e-5)
    grid = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    ours = noised(x0, noise, torch.tensor(T), make_noise_table(dict(grid.config)))
    assert torch.allclose(ours, grid.add_noise(x0, noise, torch.tensor([T])), atol=1e-5)


@pytest.fixture
def latents(
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
    make_recipe: Callable[..., Recipe],
    models: ModelManager,
) -> Callable[..., Tensor]:
    def made(*units: dict[str, object], kind: str = "sd1", **more: object) -> Tensor:
        named = [
            {**unit, "model": control_entries[str(unit["model"])].ref} if "model" in unit else unit for unit in units
        ]
        controls = tuple({"image": HINT_REF, **unit} for unit in named)
        recipe = make_recipe(kind, **{"controls": controls, "guidance": 2.0, "steps": 2, **more})
        return our_latents(recipe, entries[kind], control_entries, models)[0]

    return made


def test_no_weight_and_no_step_are_no_reference(latents: Callable[..., Tensor]) -> None:
    plain = latents()
    for kind in KINDS[::2]:
        assert torch.equal(latents({"preprocessor": kind, "weight": 0.0}), plain)
        assert torch.equal(latents({"preprocessor": kind, "start": 0.3, "end": 0.6}), plain)
        whole, half = latents({"preprocessor": kind}), latents({"preprocessor": kind, "end": 0.5})
        assert not torch.equal(whole, plain) and not torch.equal(half, whole) and not torch.equal(half, plain)
    assert torch.equal(latents(), plain)


def test_it_goes_with_what_else_acts(latents: Callable[..., Tensor]) -> None:
    reference = {"preprocessor": BOTH, "image": OTHER_REF}
    start = {"init_image": {"image": START_REF, "strength": 1.0}}
    for units, more in (
        (({"model": "canny"}, reference), {}),
        ((reference,), {"kind": "sdxl"}),
        ((reference,), start),
        ((reference,), {"hires": {"scale": 1.25, "strength": 1.0}}),
        ((reference,), {"guidance": 1.0, "tiling": "xy", "sampler": "heun"}),
    ):
        without = [unit for unit in units if unit is not reference]
        made = latents(*units, **more)
        assert torch.isfinite(made).all() and not torch.equal(made, latents(*without, **more))


def test_the_bundled_model_takes_after_the_picture() -> None:
    """At night, at sunset: pictures of another seed come nearer to the one that they are to take after, in color."""
    entry = describe(STARTER, "starter")
    engine = Engine(EngineOptions(device="cpu", threads=1))
    pictures = {}

    def paint(seed: int, prompt: str = "a red house on a green hill", **unit: object) -> np.ndarray:
        recipe = Recipe.model_validate(
            {
                "prompt": prompt,
                "model": entry.ref,
                "sampler": "ddim",
                "schedule": "sgm_uniform",
                "steps": 3,
                "guidance": 4.0,
                "width": 128,
                "height": 128,
                "seed": seed,
                "controls": (unit,) if unit else (),
            }
        )
        item = WorkItem("job", 1, Generate(recipe=recipe), pictures, {path_key(entry.ref): str(entry.path)})
        made = image_of(list(engine.generate(item, lambda: False)))
        return np.frombuffer(made.rgb, np.uint8).reshape(128, 128, 3)

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        """Of colors, wherever they are: between the sorted values of each channel."""
        return float(np.abs(np.sort(one.reshape(-1, 3), 0).astype(int) - np.sort(other.reshape(-1, 3), 0)).mean())

    model = paint(1, "a red house on a green hill, at night")
    png_bytes = png(Image.fromarray(model))
    sha256 = hashlib.sha256(png_bytes).hexdigest()
    pictures[sha256] = png_bytes
    before = distance(model, paint(2))
    assert distance(model, paint(2, image={"sha256": sha256}, preprocessor="reference_only")) < 0.8 * before
