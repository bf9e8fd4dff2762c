"""Joins the page's modules into one script: a cold browser asks for one file instead of a hundred.

A browser fetches six files at a time from one host, so many small ones held back gradio's own
(benchmarks/pages.py, figure 10). The files in page/ stay ordinary modules in folders by feature; here each becomes
a function that is called once, after those it imports from. Only the forms that page/ uses are understood, one to
a line; whatever else begins with import or export is refused.
"""

import posixpath
import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

_IMPORT = re.compile(r'^import \{ ([\w$]+(?:, [\w$]+)*) \} from "(\.{1,2}/[\w./]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|class|const) ([\w$]+))", re.MULTILINE)
# On lines of their own; they are for those who read page/, and a tenth of what would travel.
_COMMENT = re.compile(r"^[ \t]*(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/[ \t]*)\n", re.MULTILINE)
_LEFT_OVER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def bundle(sources: Mapping[str, str], entry: str) -> str:
    """One script that does what loading `entry` as a module would.

    Args:
        sources: Text of every module by its path below the page's folder, like "ui/dom.js".
        entry: The module that starts the page. What it doesn't reach is left out.

    Raises:
        ValueError: modules import each other in a circle, or a name that is not there, or a form is unknown.
    """
    reached: dict[str, list[str]] = {}  # sorted: a set's order is another in each process, and so would the script be
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        if name not in sources:
            raise ValueError(f"{name} is imported and does not exist")
        reached[name] = sorted({_resolved(target, name) for _, target in _IMPORT.findall(sources[name])})
        waiting += reached[name]
    try:
        order = list(TopologicalSorter(reached).static_order())
    except CycleError as error:
        raise ValueError(f"modules import each other in a circle: {' -> '.join(error.args[1])}") from None
    return "\n".join(_as_function(name, sources) for name in order)


def _resolved(target: str, importer: str) -> str:
    """Resolve an import like "./x.js" or "../folder/x.js" to a path below the page's folder."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(importer), target))


def _as_function(name: str, sources: Mapping[str, str]) -> str:
    def fetched(found: re.Match[str]) -> str:
        names, module = found[1], _resolved(found[2], name)
        missing = set(names.split(", ")) - set(_EXPORT.findall(sources[module]))
        if missing:
            raise ValueError(f"{name} imports {', '.join(sorted(missing))}, which {module} does not export")
        return f"const {{ {names} }} = {_variable(module)};"

    body = _COMMENT.sub("", _EXPORT.sub("", _IMPORT.sub(fetched, sources[name])))
    if unknown := _LEFT_OVER.search(body):
        raise ValueError(f"{name}: this form can't be joined: {unknown[0]}")
    given = ", ".join(_EXPORT.findall(sources[name]))
    return f"// {name}\nconst {_variable(name)} = (() => {{\n{body.rstrip()}\nreturn {{ {given} }};\n}})();\n"


def _variable(module: str) -> str:
    return "$" + module.removesuffix(".js").replace("/", "$")
