"""Keeps diffusers and transformers from importing what the engine has no use for: two thirds of its start.

By themselves `from diffusers import AutoencoderKL` and `from transformers import CLIPTextModel` import torch's compiler
and its distributed tensors, scipy's statistics, peft, xformers, torchvision, every transformer of diffusers and every
loss of transformers. In the worker's process, which only runs the engine, these are left out: flags of both libraries
say no, packages are imported member by member, and modules run when something of theirs is used. What is not made as
expected here is imported as ever, only later. Tests hold that the engine makes the same images with it.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType, ModuleType
from typing import Any

_CLIP = "transformers.models.clip"
# Modules that run when something is looked up in them which is not listed, and where what is listed comes from.
# diffusers asks for the modules of its packages by their own names. transformers reads the 1,100 files of its models to
# know which names they have, and takes from the image processors, which import torchvision, the name of a type.
_RUN_LATER: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "diffusers.hooks": {},
        "diffusers.models.autoencoders": {},
        "diffusers.models.controlnets": {},
        "diffusers.models.transformers": {},
        "diffusers.models.unets": {},
        "requests": {},
        "torch.export": {},
        "torch.quantization": {},
        "transformers": {
            "CLIPTextConfig": f"{_CLIP}.configuration_clip",
            "CLIPTextModel": f"{_CLIP}.modeling_clip",
            "CLIPTextModelWithProjection": f"{_CLIP}.modeling_clip",
            "CLIPTokenizer": f"{_CLIP}.tokenization_clip",
            "CLIPVisionConfig": f"{_CLIP}.configuration_clip",
            "CLIPVisionModelWithProjection": f"{_CLIP}.modeling_clip",
            "PreTrainedModel": "transformers.modeling_utils",
        },
        "transformers.models": {},
        _CLIP: {},
        "transformers.models.auto": {},
        "transformers.processing_utils": {"Unpack": "typing"},
    }
)
# Those of them that have to run before a module in them does; of the others each module can be had by itself.
_WHOLE_FIRST = frozenset({"requests", "torch.export", "torch.quantization"})
# Classes that their importers use much later, if ever: imported then.
_CLASSES_LATER: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "transformers": {
            "AutoImageProcessor": "transformers.models.auto.image_processing_auto",
            "CLIPImageProcessor": f"{_CLIP}.image_processing_clip",
            "DPTConfig": "transformers.models.dpt.configuration_dpt",
            "DPTForDepthEstimation": "transformers.models.dpt.modeling_dpt",
        },
        "transformers.models.auto": {"AutoModel": "transformers.models.auto.modeling_auto"},
    }
)


class _ClassLater:
    """Stands for a class of a late module until it is called or asked for something."""

    def __init__(self, owner: "_LateModule", name: str) -> None:
        self._owner, self._name = owner, name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._found()(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)

    def _found(self) -> Any:
        return self._owner.look_up(self._name, _CLASSES_LATER)


class _LateModule(ModuleType):
    """A module that runs when something is looked up in it that is neither there nor listed above."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name in self.__dict__.get("_classes", ()):
            return _ClassLater(self, name)
        found = self.look_up(name, _RUN_LATER)
        self.__dict__[name] = found
        return found

    def run(self) -> None:
        """Run it, if it has not been."""
        run = self.__dict__.pop("_run", None)
        if run is not None:
            run()

    def look_up(self, name: str, places: Mapping[str, Mapping[str, str]]) -> Any:
        """Find a name where it is listed, else among the package's modules, else in the module once it has run."""
        place = places[self.__name__].get(name)
        with suppress(ImportError):
            if place and hasattr(importlib.import_module(place), name):
                return getattr(sys.modules[place], name)
        paths = self.__dict__.get("__path__")
        if paths and importlib.machinery.PathFinder.find_spec(f"{self.__name__}.{name}", paths):
            return importlib.import_module(f"{self.__name__}.{name}")
        self.run()
        whole = sys.modules.get(self.__name__, self)
        if whole is not self:  # it has put another in its place, as transformers does
            return getattr(whole, name)
        return super().__getattribute__(name)


class _LateLoader(importlib.abc.Loader):
    """Puts off to run a module."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """An empty module."""
        return _LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Only remember how."""
        module.__dict__["_run"] = lambda: self._loader.exec_module(module)
        module.__dict__["_classes"] = _CLASSES_LATER.get(module.__name__, {})
        if module.__name__ == "transformers":
            module.__dict__["__version__"] = importlib.metadata.version("transformers")


def _leave_out(module: ModuleType, **values: object) -> None:
    """Set names that a module has; one that it has not means another version, which is left as it is."""
    for name, value in values.items():
        if hasattr(module, name):
            setattr(module, name, value)


def _unmarked(function: Any) -> Any:
    return function


def _without_compiler(module: ModuleType) -> None:
    """`torch.compiler.disable` marks nothing meanwhile: marking a function imports the compiler."""

    def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
        return fn if fn is not None else lambda function: function

    module.__dict__["_disable_of_torch"] = module.__dict__.get("disable")
    _leave_out(module, disable=disable)


def _without_libraries(module: ModuleType) -> None:
    """diffusers: no peft, no scipy, no gguf (`weights/packed.py` has it), and xformers only beside a CUDA device."""
    import torch

    _leave_out(module, _peft_available=False, _scipy_available=False, _gguf_available=False)
    if not torch.cuda.is_available():
        _leave_out(module, _xformers_available=False)


def _without_distributed(module: ModuleType) -> None:
    """transformers: no tensors that are spread over machines."""
    _leave_out(module, is_torch_distributed_available=lambda: False)


def _without_docstrings(module: ModuleType) -> None:
    """transformers: no docstrings made of the signatures of classes and methods."""

    def auto_docstring(described: Any = None, **options: object) -> Any:
        return described if described is not None else _unmarked

    _leave_out(module, auto_docstring=auto_docstring)


# By module: what is changed in it once it is executed.
_AFTER: Mapping[str, Callable[[ModuleType], None]] = MappingProxyType(
    {
        "torch.compiler": _without_compiler,
        "diffusers.utils.import_utils": _without_libraries,
        "transformers.utils.auto_docstring": _without_docstrings,
        "transformers.utils.import_utils": _without_distributed,
    }
)
_LOSSES = "transformers.loss.loss_utils"
_COMPILER = "torch._dynamo"
# Names that transformers and torchvision take from its modules, and call when they are used.
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        f"{_COMPILER}._trace_wrapped_higher_order_op": "TransformGetItemToIndex",
        f"{_COMPILER}.utils": "is_compile_supported",
    }
)


def _called_later(module: str, name: str) -> Callable[..., Any]:
    """A function or class of a module that is imported when it is called."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments, **keywords)

    return call


class _Compiler(ModuleType):
    """torch's compiler, as far as libraries ask for it while they are imported: for marks, which mark nothing here.

    Whoever asks for more gets the compiler itself.
    """

    def __init__(self) -> None:
        super().__init__(_COMPILER)
        self.__path__: list[str] = []
        self.allow_in_graph = self.assume_constant_result = _unmarked

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _forget_compiler()
        return getattr(importlib.import_module(_COMPILER), name)


class _CompilerPart(ModuleType):
    """A module of torch's compiler with the one name that is asked for; for others it gives way to the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _forget_compiler()
        return getattr(importlib.import_module(self.__name__), name)


class _Existing(importlib.abc.Loader):
    """Gives a module that was imported while it was looked for."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module as it is."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it has been executed."""
        module.__dict__["__spec__"] = self._spec  # torch's configurations take no new attributes


def _spec_of_imported(name: str) -> importlib.machinery.ModuleSpec | None:
    """How to find a module that was imported while it was looked for; None where it was not.

    The import system then takes the module's own spec, and with that of a file it would execute it a second time.
    """
    module = sys.modules.get(name)
    if module is None:
        return None
    spec = importlib.machinery.ModuleSpec(name, _Existing(module))
    module.__dict__["__spec__"] = spec
    return spec


class _Distributions(Mapping[str, list[str]]):
    """importlib.metadata.packages_distributions(), which reads the file lists of all installed packages, when asked."""

    def __init__(self, read: Callable[[], Mapping[str, list[str]]]) -> None:
        self._read = functools.cache(read)

    def __getitem__(self, package: str) -> list[str]:
        return self._read()[package]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def _forget_compiler() -> None:
    """Take the stand-in away, if it is there."""
    if isinstance(sys.modules.get(_COMPILER), _Compiler):
        del sys.modules[_COMPILER]
        for name in _NAMES:
            sys.modules.pop(name, None)


class _WholeFirst(importlib.abc.MetaPathFinder):
    """Runs a package before a module in it is imported; it stays, since that may happen at any time."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """None, unless the module was imported as the package ran."""
        package = name.rpartition(".")[0]
        if package not in _WHOLE_FIRST:
            return None
        late = sys.modules[package]
        if isinstance(late, _LateModule):
            late.run()
        return _spec_of_imported(name)


class _Losses(importlib.abc.Loader):
    """transformers' table of losses, empty: nothing is trained here."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """A plain module."""
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """The one name that is imported from it."""
        module.__dict__["LOSS_MAPPING"] = {}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module as it would be found anyway, with another loader."""
        if name.startswith(f"{_COMPILER}.") and isinstance(sys.modules.get(_COMPILER), _Compiler):
            # Another part of it than is known here: all of it, then. `path` is the stand-in's.
            _forget_compiler()
            path = importlib.import_module(_COMPILER).__path__
            return _spec_of_imported(name) or importlib.machinery.PathFinder.find_spec(name, path, target)
        if name != _LOSSES and name not in _AFTER and name not in _RUN_LATER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        if name == _LOSSES:
            spec.loader = _Losses()
        elif name in _RUN_LATER:
            spec.loader = _LateLoader(spec.loader)
        else:
            execute = spec.loader.exec_module

            def execute_and_change(module: ModuleType) -> None:
                execute(module)
                _AFTER[name](module)

            spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


@contextmanager
def lean_imports() -> Iterator[None]:
    """While it lasts, and for what was imported meanwhile. For the process of a worker; before torch is imported."""
    finder = _Finder()
    sys.meta_path[:0] = [finder, _WholeFirst()]
    read = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = lambda: _Distributions(read)
    sys.modules[_COMPILER] = _Compiler()
    for module, name in _NAMES.items():
        sys.modules[module] = _CompilerPart(module)
        sys.modules[module].__dict__[name] = _called_later(module, name)
    try:
        yield
    finally:
        _forget_compiler()
        sys.meta_path.remove(finder)
        importlib.metadata.packages_distributions = read
        for name in _CLASSES_LATER:  # others get the classes themselves
            if isinstance(sys.modules.get(name), _LateModule):
                sys.modules[name].__dict__["_classes"] = {}
        compiler = sys.modules.get("torch.compiler")
        if compiler is not None and compiler.__dict__.get("_disable_of_torch") is not None:
            compiler.__dict__["disable"] = compiler.__dict__.pop("_disable_of_torch")
