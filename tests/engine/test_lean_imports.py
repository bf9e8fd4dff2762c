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
    "xformers",
    "cv2",
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
    assert set(whole["loaded"]) >= {"torch._dynamo", "sympy", "peft"}  # else there is nothing to leave out
    assert lean["later"] == whole["later"]


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
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
