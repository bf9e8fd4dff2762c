"""The shape of the program, held by reading its source (architecture_rules.py) and by starting its parts."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.architecture_rules import (
    CHECKS,
    MODULES,
    PACKAGES,
    TORCH,
    Check,
    app_violations,
    asset_violations,
    banned_violations,
    catch_all_violations,
    contract_violations,
    declaration_violations,
    folder_violations,
    import_violations,
    imports,
    name_violations,
    neighbor_violations,
    print_violations,
    sources,
    state_violations,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_program_keeps_its_rules(check: Check) -> None:
    assert list(check(ROOT)) == []


def pinned(file: str) -> dict[str, str]:
    """The names and versions of a requirements file; a line that is not an exact pin is a failure."""
    found = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([\w-]+)==([\w.]+)(; .+)?", line)
            assert match, f"{file}: {line!r} is not an exact pin"
            found[match.group(1).lower().replace("_", "-")] = match.group(2)
    return found


def test_requirements_are_exact_and_fit_a_space() -> None:
    found = pinned("requirements.txt")
    assert "mediapipe" not in found
    assert tuple(map(int, found["pydantic"].split("."))) < (2, 13)
    front_matter = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    assert f"sdk_version: {found['gradio']}\n" in front_matter


def test_every_import_is_pinned() -> None:
    """What the program imports is a requirement of its own, and not only one of a requirement's."""
    always = pinned("requirements.txt").keys() | {"ray", "spaces", "openvino"}  # these are optional extras
    for_tests = always | pinned("requirements-test.txt").keys()
    owners = importlib.metadata.packages_distributions()
    missing = set()
    for source in sources(ROOT):
        is_benchmark = source.path.startswith("benchmarks/")
        wanted = for_tests | {"tests"} if is_benchmark else always
        for found in imports(source):
            top = found.target.split(".")[0]
            distributions = {name.lower().replace("_", "-") for name in owners.get(top, [top])}
            if top not in sys.stdlib_module_names | {*PACKAGES, *MODULES} and not distributions & wanted:
                missing.add(source.at(found.node, f"imports {found.target}"))
    assert missing == set()


def test_names_at_the_top_are_names() -> None:
    """A shell that takes output for a redirection leaves files called by what was printed."""
    assert [path.name for path in ROOT.iterdir() if not re.fullmatch(r"\.?[\w-]+(\.\w+)*", path.name)] == []


@pytest.mark.parametrize("name", ["contract", "catalog", "engine", "studio", "api", "tabs", "extensions"])
def test_every_package_stands(name: str) -> None:
    assert (ROOT / name).is_dir()


@pytest.mark.parametrize("name", ["contract", "catalog", "studio", "studio.workers", "api", "tabs", "app"])
def test_web_side_starts_without_torch(name: str) -> None:
    """In a fresh interpreter, with every module of the package."""
    script = f"""
import importlib, json, pkgutil, sys
package = importlib.import_module({name!r})
for found in pkgutil.walk_packages(getattr(package, "__path__", ()), {name!r} + "."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert name in loaded
    assert loaded & TORCH == set()
    if name != "tabs":
        assert "gradio" not in loaded


@pytest.mark.slow
def test_types_hold() -> None:
    """mypy, as pyproject.toml sets it: strict on the layers that everyone builds on."""
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command: list[str]) -> None:
    """Lint and format, as pyproject.toml sets them."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


# The checks can fail

BAD_TREE = {
    "contract/a.py": "import numpy\nimport studio.queue\nfrom yaml import x\n",
    "contract/hooks.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n    import engine\n",
    "catalog/a.py": "from diffusers import UNet2DConditionModel\nimport sqlite3\n",
    "engine/a.py": "import gradio as gr\nfrom studio import queue\nimport PIL.Image, numpy, torch\n",
    "studio/a.py": (
        "def f():\n    import torch\n    from engine import paint\nfrom .workers import inline\nfrom .. import tabs\n"
        "try:\n    x = 1\nexcept Exception:\n    pass\ntry:\n    x = 1\nexcept:\n    raise\n"
    ),
    "studio/workers/a.py": (
        "import engine.paint\nfrom .. import queue\n"
        "def f():\n    from engine import paint\n    import torch\n"
        "try:\n    f()\nexcept Exception:\n    pass\n"
    ),
    "api/a.py": "import importlib\nfrom tabs import x\nimport fastapi\nimportlib.import_module('engine.engine')\n",
    "tabs/a.py": "import gradio\nimport api.jobs\nfrom PIL import Image\n",
    "extensions/b/extension.py": "import gradio\nimport extensions.c\nfrom . import own\ndef f():\n    import gradio\n",
    "extensions/b/engine.py": "import torch\nimport engine\n",
    "training/a.py": "import torch, PIL, numpy\nimport studio\n",
    "engine/names.py": "x = 'sdxl'\nY = {'heun': 'sd'}\n",
    "catalog/families/new.py": "x = ('sdxl', 'heun')\n",
    "catalog/samplers.py": "x = 'heun'\n",
    "app.py": "from studio.studio import Studio\nimport gradio\ndef f():\n    import tabs\n    print(1)\n",
    "studio/state.py": (
        "import threading\nCACHE = {}\nlock = threading.Lock()\nnames = ['a']\nFACTS = {'a': 1}\nPAIRS = (1, 2)\n"
        "__all__ = ['x']\n"
        "def f():\n    global PAIRS\n    FACTS['b'] = 2\n    own = []\n    own.append(1)\n"
        "import functools\n@functools.lru_cache(9)\ndef g():\n    return 1\n"
        "if __name__ == '__main__':\n    print(1)\n"
    ),
    "engine/banned.py": (
        "import httpx, pickle\nprint(1)\npickle.loads(b'')\ntorch.load('x', weights_only=False)\nmodel.eval()\n"
        "archive.extractall('.')\nlaunch(share=True, allowed_paths=['/'])\nlaunch(share=False, allowed_paths=[])\n"
        "load('x', trust_remote_code=True)\neval('1')\n"
    ),
    "training/prints.py": "print(1)\n",
    "tabs/helpers.py": "",
    "studio/jobs/a.py": "from studio.storage import b\n",
    "studio/storage/b.py": "from studio.jobs import a\n",
    **{f"catalog/many/m{number}.py": "" for number in range(21)},
    "tabs/page/a.js": "const ns = 'http://www.w3.org/2000/svg'; // a note\nimport x from 'https://cdn.example/x.js'\n",
    "tabs/page/a.css": "@import url(//cdn.example/x.css);\na { color: red }\n",
}  # fmt: skip
EXPECTED: dict[Check, set[str]] = {
    import_violations: {
        "contract/a.py:1: imports numpy",
        "contract/a.py:2: imports studio.queue",
        "contract/hooks.py:4: imports engine for types",
        "catalog/a.py:1: imports diffusers.UNet2DConditionModel",
        "catalog/a.py:2: imports sqlite3",
        "engine/a.py:1: imports gradio",
        "engine/a.py:2: imports studio.queue",
        "engine/banned.py:1: imports httpx",
        "studio/a.py:2: imports torch in a function",
        "studio/a.py:3: imports engine.paint in a function",
        "studio/a.py:5: imports tabs",
        "studio/workers/a.py:1: imports engine.paint",
        "api/a.py:2: imports tabs.x",
        "api/a.py:4: imports engine.engine",
        "tabs/a.py:2: imports api.jobs",
        "tabs/a.py:3: imports PIL.Image",
        "extensions/b/extension.py:1: imports gradio",
        "extensions/b/engine.py:2: imports engine",
        "training/a.py:2: imports studio",
    },
    contract_violations: {
        "contract/a.py:1: imports numpy",
        "contract/a.py:2: imports studio.queue",
        "contract/a.py:3: imports yaml.x",
    },
    app_violations: {"app.py:2: imports gradio at module level"},
    neighbor_violations: {"extensions/b/extension.py:2: imports extensions.c, another extension"},
    state_violations: {
        "studio/state.py:2: keeps state in CACHE at module level",
        "studio/state.py:3: keeps state in lock at module level",
        "studio/state.py:4: names can be changed: make it a tuple, a frozenset or a CONSTANT",
        "studio/state.py:9: has a global statement",
        "studio/state.py:10: changes the constant FACTS",
        "studio/state.py:15: keeps a cache at module level",
    },
    print_violations: {"engine/banned.py:2: prints; use logging", "app.py:5: prints; use logging"},
    banned_violations: {
        "engine/banned.py:1: imports httpx; clients are for tests",
        "engine/banned.py:3: pickle.loads: a pickle runs code",
        "engine/banned.py:4: weights_only=False: a pickle runs code",
        "engine/banned.py:6: extractall: an archive writes where it likes",
        "engine/banned.py:7: share=True: no share link",
        "engine/banned.py:7: allowed_paths: pictures leave by record id only",
        "engine/banned.py:9: trust_remote_code=True: a model runs no code",
        "engine/banned.py:10: eval: text never runs",
    },
    catch_all_violations: {"studio/a.py:8: catches Exception and goes on"},
    declaration_violations: {
        "engine/names.py:1: names “sdxl”, which is declared in catalog/families/",
        "engine/names.py:2: names “heun”, which is declared in catalog/samplers.py",
    },
    name_violations: {"tabs/helpers.py: a name that says nothing"},
    folder_violations: {
        "catalog/many: holds 21 files",
        "folders import each other in a circle: studio/jobs -> studio/storage -> studio/jobs",
    },
    asset_violations: {"tabs/page/a.css:1: //cdn.example/x.css", "tabs/page/a.js:2: https://cdn.example/x.js"},
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check_finds_what_is_wrong_and_nothing_else(tmp_path: Path, check: Check) -> None:
    for path, text in BAD_TREE.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert set(check(tmp_path)) == EXPECTED[check]
