"""What the model task process runs in tests, in place of the engine's converter and merger."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from contract.errors import ModelProblem
from contract.tasks import Merge

Say = Callable[[str, float | None], None]


def convert(source: Path, target: Path, say: Say) -> str:
    """Copies; the first word of the source asks for a fault."""
    words = source.read_text()
    say("Reading", 0.5)
    target.write_text(f"converted {words}")
    if words.startswith("refuse"):
        raise ModelProblem("It holds code.", "Use another.")
    if words.startswith("break"):
        raise RuntimeError("broken")
    if words.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if words.startswith("hang"):
        target.with_name("pid").write_text(str(os.getpid()))
        time.sleep(60)
    return "2 entries were left out." if words.startswith("partly") else ""


def merge(task: Merge, paths: Mapping[str, str], target: Path, say: Say) -> str:
    """Writes what it was given."""
    target.write_text(f"{task.method} {task.ratio} {sorted(paths)}")
    return ""
