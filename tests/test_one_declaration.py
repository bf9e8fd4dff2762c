"""A family, a sampler and a guidance method are declared once: each is added with one file and one line, and the program runs with them."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.support.program import PROJECT, Program

PACKAGES = ("contract", "catalog", "engine", "studio", "api", "tabs", "extensions")
FAMILY_LINE = (
    '    Family(id="toy", label="Toy", tensors=frozenset({"toy.tint"}), predictions={"text": "sample"},'
    ' sizes=three_sizes((64, 64), (96, 64), (64, 96)), defaults=Defaults(sampler="toy", steps=4, width=64, height=64),'
    " latents=LatentFormat(channels=3, factor=4, scale=1.0),"
    ' text_encoders=(TextEncoder("text_encoder", "toy.words."),)),\n'
)
SAMPLER_LINE = '    Sampler("toy", "Toy sampler", ("k_toy",), "uniform", "toy:sample_toy"),\n'
GUIDANCE_LINE = (
    '    Method(id="toy", label="Toy guidance", does="Halves a prediction.", maker="toy:Toy",'
    ' parameters=(Parameter("share", "Share", 0.5),)),\n'
)
GUIDANCE_FILE = '''
"""A share of what is predicted."""

from dataclasses import dataclass, replace


@dataclass
class Toy:
    share: float

    def __call__(self, evaluation, guide):
        prediction = guide(evaluation)
        return replace(prediction, guided=self.share * prediction.guided)
'''
SAMPLER_FILE = '''
"""Goes half of the way to the denoised estimate at each step, and all of it in the last."""

from itertools import pairwise


def sample_toy(model, x, sigmas, noise):
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        x = yield denoised + (x - denoised) * (0.5 if sigma_next else 0.0), sigma_next
'''
# Latents of three channels at a quarter of the size; a transformer that predicts the image; files with keys of its own.
FAMILY_FILE = '''
"""A family whose model paints one color, by the prompt."""

from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL
from torch import nn

from catalog.families import FAMILIES
from engine.families.family import Encoded
from engine.weights.reading import TensorSlice

VAE = {"block_out_channels": (8, 8, 8), "latent_channels": 3, "norm_num_groups": 2, "scaling_factor": 1.0}
DOWN, UP = ("DownEncoderBlock2D",) * 3, ("UpDecoderBlock2D",) * 3


class Words(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=49408, max_position_embeddings=77)
        self.table = nn.Embedding(49408, 3)

    def get_input_embeddings(self):
        return self.table

    def forward(self, ids):
        return self.table(ids)


class Painter(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = SimpleNamespace(in_channels=3)
        self.tint = nn.Parameter(torch.zeros(3))

    def forward(self, latents, prompt_embeds):
        color = torch.tanh(prompt_embeds.mean(1) * self.tint)
        return color[:, :, None, None].expand_as(latents)


class Toy:
    facts = FAMILIES["toy"]
    zeroes_empty_negative = False
    builders = {
        "text_encoder": Words,
        "transformer": Painter,
        "vae": lambda config: AutoencoderKL(down_block_types=DOWN, up_block_types=UP, **config),
    }

    def read_file(self, file, header):
        own = {
            "text_encoder": {"table.weight": TensorSlice("toy.words.table")},
            "transformer": {"tint": TensorSlice("toy.tint")},
            "vae": {name[8:]: TensorSlice(name) for name in header if name.startswith("toy.vae.")},
        }
        return {name: (VAE if name == "vae" else {}, slices) for name, slices in own.items()}

    def read_vae_file(self, file, header):
        raise NotImplementedError

    def encode(self, onload, ids, clip_skip, evaluate):
        return Encoded(onload("text_encoder")(ids[0]))

    def added(self, pooled, told, is_guided):
        return None

    def predict(self, onload, dtype, *, in_float32=False, evaluate=None):
        return lambda latents, t, conditions, residuals: onload("transformer")(
            latents.to(dtype), conditions.prompt_embeds
        )


FAMILY = Toy()
'''


def add_line(file: Path, after: str, line: str) -> None:
    """Add a line behind another, of which there is one."""
    text = file.read_text("utf-8")
    assert text.count(after) == 1
    file.write_text(text.replace(after, after + line), "utf-8")


def write_toy_model(file: Path) -> None:
    from diffusers import AutoencoderKL

    torch.manual_seed(3)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=3,
        norm_num_groups=2,
        scaling_factor=1.0,
    )
    tensors = {f"toy.vae.{name}": tensor.contiguous() for name, tensor in vae.state_dict().items()}
    tensors |= {"toy.tint": torch.tensor([1.0, -1.0, 0.5]), "toy.words.table": torch.randn(49408, 3)}
    file.parent.mkdir(parents=True)
    save_file(tensors, file)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    root = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "outputs"))
    shutil.copy(PROJECT / "app.py", root)
    (root / "engine/families/toy.py").write_text(FAMILY_FILE, "utf-8")
    add_line(root / "catalog/families/__init__.py", "    flux.FAMILY,\n", FAMILY_LINE)
    (root / "engine/sampling/solvers/toy.py").write_text(SAMPLER_FILE, "utf-8")
    add_line(root / "catalog/samplers.py", "_SAMPLERS = (\n", SAMPLER_LINE)
    (root / "engine/sampling/guidance/toy.py").write_text(GUIDANCE_FILE, "utf-8")
    add_line(root / "catalog/guidance.py", "_METHODS = (\n", GUIDANCE_LINE)
    data = tmp_path_factory.mktemp("home") / "data"
    write_toy_model(root / "models" / "toy.safetensors")
    running = Program(data, project=root)
    running.wait_for_page()
    running.wait_for_engine()
    yield running
    running.end()


def generate(program: Program, **draft: Any) -> tuple[dict[str, Any], list[dict[str, Any]], Image.Image]:
    """The record of the one image of a job, the events of the job, and the image."""
    job = program.submit(model="toy", **draft)
    ended = program.wait_until_ended(job)
    assert ended["state"] == "done", (ended, program.log.read_text()[-3000:])
    lines = program.client.get(f"/api/v1/jobs/{job}/events").text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    (saved,) = [event for event in events if event["type"] == "saved"]
    record = program.client.get(f"/api/v1/images/{saved['record']['id']}/record").json()
    image = program.client.get(f"/api/v1/images/{record['id']}")
    return record, events, Image.open(io.BytesIO(image.content)).convert("RGB")


def test_a_toy_family_and_a_toy_sampler_generate_through_the_api(program: Program) -> None:
    entry = program.client.get("/api/v1/models/toy").json()
    assert (entry["family"], entry["family_label"], entry["problem"]) == ("toy", "Toy", None)
    assert "toy" in [sampler["id"] for sampler in program.client.get("/api/v1/samplers").json()["samplers"]]
    record, events, image = generate(program, prompt="a red barn", seed=7)
    recipe = record["recipe"]
    assert (recipe["model"]["family"], recipe["sampler"], recipe["steps"]) == ("toy", "toy", 4)
    assert image.size == (recipe["width"], recipe["height"]) == (64, 64)
    assert [event["type"] for event in events if event["type"] in ("saved", "done")] == ["saved", "done"]
    _, _, again = generate(program, prompt="a red barn", seed=7)
    assert image.tobytes() == again.tobytes()
    _, _, other = generate(program, prompt="a green boat", seed=7)
    assert image.tobytes() != other.tobytes()
    guided = {"guidance_methods": [{"id": "toy", "values": {"share": 0.25}}]}
    record, _, other = generate(program, prompt="a red barn", seed=7, **guided)
    assert record["recipe"]["guidance_methods"] == guided["guidance_methods"]
    assert image.tobytes() != other.tobytes()


def test_the_other_passes_run_with_them_too(program: Program) -> None:
    """Image to image, a mask, and a hires pass use the family's latents of a quarter, not an eighth."""
    picture = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((64, 64)).save(picture, "PNG")
    sent = program.client.post("/api/v1/uploads", content=picture.getvalue()).json()
    source = {"sha256": sent["sha256"]}
    _, _, image = generate(program, seed=1, init_image={"image": source, "strength": 0.5}, mask={"image": source})
    assert image.size == (64, 64)
    _, _, larger = generate(program, seed=1, hires={"scale": 1.5, "upscaler": "latent", "steps": 2, "strength": 0.6})
    assert larger.size == (96, 96)


def test_a_sampler_that_is_no_row_is_refused(program: Program) -> None:
    """The toy is no special case of the test's: what no row names is not there."""
    answer = program.client.post("/api/v1/jobs", json={"prompt": "sea", "model": "toy", "sampler": "toy2"})
    assert answer.status_code == 422
