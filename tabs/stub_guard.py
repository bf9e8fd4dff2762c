"""Keeps gradio from writing type stubs for its components: nearly half of the time that importing it takes.

At each import gradio reads, parses and renders a `.pyi` file for each of its 81 component classes, for editors to read.
Nothing reads them here. Where gradio isn't made as expected it is left as it is, and its import takes longer.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_MODULE, _FUNCTION = "gradio.component_meta", "create_or_modify_pyi"


class _WithoutStubs(MetaPathFinder):
    """Finds the one module as it would be found anyway, and takes one function from it once it is loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_without_stubs(module: ModuleType) -> None:
            execute(module)
            if hasattr(module, _FUNCTION):
                setattr(module, _FUNCTION, lambda component_class, class_name, events: None)

        spec.loader.exec_module = execute_without_stubs  # type: ignore[method-assign]
        return spec


def skip_component_stubs() -> None:
    """Skip the stubs when gradio is imported; nothing happens where it is imported already."""
    if _MODULE not in sys.modules:
        sys.meta_path.insert(0, _WithoutStubs())
