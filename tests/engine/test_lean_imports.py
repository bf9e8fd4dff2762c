"""What a worker's process imports before its first image, and that the image is the same."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny

ROOT = Path(__file__).resolve().parents[2]
# Each takes from a third of a second to several, and none is used by a first image.
HEAVY = (
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.tensor",
    "sympy",
    "scipy.stats",
    "peft",
    "gguf",
    "xformers",
    "cv2",
    "requests.api",
    "torch.ao.quantization.fake_quantize",
    "torch.export.exported_program",
    "torchvision",
    "transformers.image_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.dpt.modeling_dpt",
)
SCRIPT = """
import hashlib, json, sys
from contextlib import nullcontext
from pathlib import Path

from engine.lean_imports import lean_imports

folder, is_lean = Path(sys.argv[1]), sys.argv[2] == "lean"
with lean_imports() if is_lean else nullcontext():
    import engine.engine
from catalog.models import describe
from contract.recipe import Recipe
from contract.tasks import Generate
from contract.work import WorkImage, WorkItem, path_key

entry = describe(folder, "tiny")
made = engine.engine.Engine(engine.engine.EngineOptions(device="cpu", threads=1))
pictures = []
for sampler in ("euler", "unipc"):
    recipe = Recipe(prompt="a red cat", model=entry.ref, sampler=sampler, schedule="karras", steps=3, guidance=5.0,
                    width=64, height=64, seed=7)
    work_item = WorkItem("job", 1, Generate(recipe=recipe), model_paths={path_key(entry.ref): str(folder)})
    events = list(made.generate(work_item, lambda: False))
    pictures += [hashlib.sha256(event.pixels.rgb).hexdigest() for event in events if isinstance(event, WorkImage)]
loaded = sorted(name for name in sys.argv[3].split() if name in sys.modules)

import torch
later = {
    "disable": torch.compiler.disable.__module__,
    "compiler": torch._dynamo.__spec__ is not None,
    "whole package": hasattr(__import__("diffusers").models.transformers, "SD3Transformer2DModel"),
    "other models": __import__("transformers").T5EncoderModel.__module__,
    "a class of later": isinstance(__import__("transformers").AutoModel, type),
    "docstrings": __import__("transformers").utils.logging.__name__,
    "quantization": torch.quantization.FakeQuantize.__module__,
    "export": torch.export.ExportedProgram.__module__,
    "requests": __import__("requests").get.__module__,
    "images": __import__("engine.adapters.ip_adapter").adapters.ip_adapter.CLIPImageProcessor(size=32).size["shortest_edge"],
    "packages": "torch" in __import__("importlib").metadata.packages_distributions(),
}
print(json.dumps({"pictures": pictures, "loaded": loaded, "later": later}))
"""


def run(folder: Path, kind: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder), kind, " ".join(HEAVY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_lean_start_imports_nothing_heavy_and_makes_the_same_images(kind: tiny.Kind, tmp_path: Path) -> None:
    folder = tiny.build(kind, tmp_path / kind)
    lean, whole = run(folder, "lean"), run(folder, "whole")
    assert len(lean["pictures"]) == 2 and lean["pictures"] == whole["pictures"]
    assert lean["loaded"] == []
    # Else there would be nothing to leave out.
    assert set(whole["loaded"]) >= {"torch._dynamo", "sympy", "peft", "torchvision", "torch.export.exported_program"}
    assert lean["later"] == whole["later"]


def test_names_of_another_version_are_found_as_ever() -> None:
    """The tables say where names are today; a name that moved, or that nobody listed, is looked up in the package."""
    script = """
from types import MappingProxyType
from engine import lean_imports
moved = {"CLIPTextModel": "transformers.gone", "CLIPTokenizer": "transformers.models.clip"}
lean_imports._RUN_LATER = MappingProxyType({**lean_imports._RUN_LATER, "transformers": moved})
lean_imports._CLASSES_LATER = MappingProxyType({"transformers": {"CLIPImageProcessor": "transformers.gone"}})
with lean_imports.lean_imports():
    from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPTextConfig
    import transformers.models.clip
assert CLIPTextModel.__name__ == "CLIPTextModel" and CLIPTokenizer.__name__ == "CLIPTokenizer"
assert CLIPTextConfig().hidden_size == 512 and CLIPImageProcessor(size=32).size["shortest_edge"] == 32
assert transformers.models.clip.CLIPModel.__name__ == "CLIPModel"
try:
    transformers.NoSuchModel
except AttributeError as error:
    assert "NoSuchModel" in str(error)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_package_that_has_to_run_first_does() -> None:
    script = """
import sys
from engine.lean_imports import lean_imports
with lean_imports():
    import requests
assert "requests.api" not in sys.modules
import requests.adapters
assert "requests.api" in sys.modules
assert requests.adapters is sys.modules["requests.adapters"]
assert requests.adapters.HTTPAdapter is requests.sessions.HTTPAdapter, "it ran twice"
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "statement",
    [
        "from torch._dynamo.utils import counters",
        "import torch._dynamo.config",
        "from torch._dynamo.eval_frame import OptimizedModule",
        "from torch._dynamo import optimize",
    ],
)
def test_who_asks_for_more_of_the_compiler_gets_it(statement: str) -> None:
    """Another version of a library may ask for other names than today's."""
    script = f"""
import sys
from engine.lean_imports import lean_imports
with lean_imports():
    import torch
    {statement}
assert sys.modules["torch._dynamo"].__spec__.origin, "still the stand-in"
assert torch._dynamo.utils.counters is not None
assert torch._dynamo.utils.counters is sys.modules["torch._dynamo.convert_frame"].counters, "it ran twice"
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
