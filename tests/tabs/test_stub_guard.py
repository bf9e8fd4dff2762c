"""gradio writes no type stubs when the page imports it, and is otherwise whole."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, pathlib, sys
import tabs
reads = []
read_text = pathlib.Path.read_text
pathlib.Path.read_text = lambda path, *args, **more: reads.append(path.suffix) or read_text(path, *args, **more)
import gradio
from gradio import component_meta
print(json.dumps({
    "stubs": reads.count(".pyi"),
    "components": component_meta.ComponentMeta.__name__,
    "guards": [type(finder).__name__ for finder in sys.meta_path if type(finder).__module__ == "tabs.stub_guard"],
    "change": hasattr(gradio.HTML, "change"),
}))
"""


def test_gradio_reads_no_stubs_and_keeps_its_events() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"stubs": 0, "components": "ComponentMeta", "guards": [], "change": True}


def test_a_gradio_without_that_function_is_left_as_it_is() -> None:
    """And reads its stubs: else the test above would say nothing, and the guard could go."""
    script = "import tabs.stub_guard\ntabs.stub_guard._FUNCTION = 'not_there'\n" + SCRIPT
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1])["stubs"] > 50
