"""Modules joined into one script: what is imported comes first, and what can't be joined is refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tabs.bundle import bundle

ROOT = Path(__file__).parents[2]

DOM = "// Elements.\n\nexport const h = (tag) => tag;\nexport async function later() {}\nconst own = 1;\n"
APP = 'import { h } from "./ui/dom.js";\nimport { word } from "./core/words.js";\n\nh(word);\n'
WORDS = 'import { h, later } from "../ui/dom.js";\nexport const word = h(later);\n'


def test_each_module_becomes_a_function_after_those_it_imports() -> None:
    script = bundle({"app.js": APP, "ui/dom.js": DOM, "core/words.js": WORDS, "unused.js": "nonsense("}, "app.js")
    assert re.findall(r"^// ([\w/]+\.js)$", script, re.MULTILINE) == ["ui/dom.js", "core/words.js", "app.js"]
    assert "const { h, later } = $ui$dom;\nconst word = h(later);" in script
    assert "return { h, later };" in script and "return { word };" in script
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert "nonsense" not in script


def test_comments_on_lines_of_their_own_stay_behind() -> None:
    source = '// A.\n/**\n * @param {any} a * 2\n */\n  // b\nconst a = "/** not one */"; // stays\n/** C. */\nconst c = 2 /* d */;\n'
    script = bundle({"app.js": source}, "app.js")
    assert script.split("\n")[2:4] == ['const a = "/** not one */"; // stays', "const c = 2 /* d */;"]


def test_same_modules_in_another_order_make_the_same_script() -> None:
    sources = {"app.js": APP, "ui/dom.js": DOM, "core/words.js": WORDS}
    assert bundle(sources, "app.js") == bundle(dict(reversed(sources.items())), "app.js")


def test_the_page_s_script_is_the_same_at_each_start() -> None:
    """Else its address would change, and every browser would fetch and compile it again."""
    script = "from tabs.head import page_front; print(page_front().head_html)"
    heads = set()
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        heads.add(done.stdout)
    assert len(heads) == 1


@pytest.mark.parametrize(
    ("dom", "words"),
    [
        ("export const other = 1;\n", "app.js imports h, which ui/dom.js does not export"),
        (
            'import { word } from "../app.js";\nexport const h = 1;\n',
            "in a circle: .*app.js.*dom.js|circle: .*dom.js.*app.js",
        ),
        ('import { far } from "./far.js";\nexport const h = 1;\n', "ui/far.js is imported and does not exist"),
        ("export default 1;\nexport const h = 1;\n", "ui/dom.js: this form can't be joined: export default 1;"),
        ("export let h = 1;\n", "ui/dom.js: this form can't be joined: export let h = 1;"),
        ('import h from "./x.js";\nexport const h = 1;\n', 'this form can\'t be joined: import h from "./x.js";'),
        ('import {\n  a,\n} from "./x.js";\nexport const h = 1;\n', "this form can't be joined: import {"),
    ],
)
def test_what_can_not_be_joined_is_refused(dom: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bundle({"app.js": 'import { h } from "./ui/dom.js";\n', "ui/dom.js": dom}, "app.js")
