"""Finds extensions, calls their hooks, and keeps their failures their own.

The contract is `contract/hooks.py`. One that can't be imported is off and named; a hook that fails while
finishing pictures is switched off the third time; a watcher's failure is logged once.
"""

import importlib.util
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pluggy

from contract.errors import InvalidRecipe
from contract.events import JobEvent
from contract.hooks import NAMESPACE, Hooks
from contract.recipe import RecipeDraft
from contract.work import RawImage

logger = logging.getLogger(__name__)
MOST_FAILURES = 3


class Extensions:
    """All extensions of some folders.

    Attributes:
        failed: Name -> why it is off, as a sentence.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._manager = pluggy.PluginManager(NAMESPACE)
        self._manager.add_hookspecs(Hooks)
        self.failed: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._logged: set[tuple[str, str]] = set()
        for folder in folders:
            for path in sorted(folder.glob("*/extension.py")):
                self._load(path)

    @property
    def names(self) -> tuple[str, ...]:
        """The extensions that are on."""
        return tuple(name for name, _ in self._manager.list_name_plugin())

    def register(self, plugin: object, name: str) -> None:
        """Add an object with hooks; for tests and built-in ones."""
        self._manager.register(plugin, name)

    def _load(self, path: Path) -> None:
        name = path.parent.name
        try:
            spec = importlib.util.spec_from_file_location(f"darkroom_extension_{name}", path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
            self._manager.register(module, name)
            self._manager.check_pending()
        except (Exception, SystemExit) as error:
            logger.exception("extension %s could not be loaded", name)
            self._switch_off(name, f"Extension “{name}” could not be loaded ({type(error).__name__}).")

    def _switch_off(self, name: str, sentence: str) -> None:
        self.failed[name] = sentence
        if self._manager.has_plugin(name):
            self._manager.unregister(name=name)

    def _calls(self, hook: str) -> list[pluggy.HookImpl]:
        return list(getattr(self._manager.hook, hook).get_hookimpls())

    def adjust(self, draft: RecipeDraft) -> RecipeDraft:
        """Let every extension change a draft, in order.

        Raises:
            InvalidRecipe: an extension failed; it is named.
        """
        for call in self._calls("adjust_recipe"):
            try:
                changed = _invoke(call, draft=draft)
                if changed is not None and not isinstance(changed, RecipeDraft):
                    raise TypeError(f"adjust_recipe gave a {type(changed).__name__}")
            except (Exception, SystemExit) as error:
                logger.exception("extension %s failed in adjust_recipe", call.plugin_name)
                raise InvalidRecipe(
                    f"Extension “{call.plugin_name}” could not change the recipe ({type(error).__name__}).",
                    "Switch it off, or look into the log.", code="extension_failed") from None
            draft = draft if changed is None else changed
        return draft

    def finish(self, image: RawImage, extras: dict[str, object]) -> tuple[RawImage, tuple[tuple[str, str], ...]]:
        """Let every extension change a finished picture; a failing one leaves it, with a notice."""
        notices = []
        for call in self._calls("finish_image"):
            try:
                changed = _invoke(call, image=image, extras=extras)
                image = image if changed is None else _checked(changed)
            except (Exception, SystemExit):
                logger.exception("extension %s failed in finish_image", call.plugin_name)
                notices.append(("extension_failed", self._count_failure(call.plugin_name)))
        return image, tuple(notices)

    def _count_failure(self, name: str) -> str:
        self._failures[name] += 1
        if self._failures[name] < MOST_FAILURES:
            return f"Extension “{name}” failed; the picture is saved without it."
        self._switch_off(name, f"Extension “{name}” failed three times and was switched off.")
        return self.failed[name]

    def watch(self, hook: str, **values: JobEvent) -> None:
        """Tell the watchers (on_start, on_event, on_stop); each failure is logged once."""
        for call in self._calls(hook):
            try:
                _invoke(call, **values)
            except (Exception, SystemExit):
                key = (call.plugin_name, hook)
                if key not in self._logged:
                    self._logged.add(key)
                    logger.exception("extension %s failed in %s", *key)


def _invoke(call: pluggy.HookImpl, **values: object) -> object:
    return call.function(*(values[name] for name in call.argnames))


def _checked(image: object) -> RawImage:
    if not isinstance(image, RawImage) or len(image.rgb) != 3 * image.width * image.height:
        raise TypeError("finish_image gave no RawImage of the right length")
    return image
