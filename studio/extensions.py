"""Finds extensions, calls their hooks, and isolates their failures.

The contract is `contract/hooks.py`. An extension that can't be imported is switched off and named; one that is new or
changed is tried in a process first (`extension_probe.py`). A hook that fails three times, or does not return, is
switched off with its extension; a watcher's failure is logged once. Every call is bounded (`extension_calls.py`).
"""

import copy
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pluggy

from contract.errors import InvalidRecipe, RequestError
from contract.events import JobEvent
from contract.hooks import NAMESPACE, Hooks
from contract.recipe import RecipeDraft
from contract.validation import parse_draft
from contract.work import RawImage
from studio.extension_calls import CallFailed, call_within
from studio.extension_probe import load_extension, name_of, probe, state_of

logger = logging.getLogger(__name__)
MOST_FAILURES = 3
MOST_PIXELS = 8192 * 8192
_HINT = "Remove the extension, or look into the log."


class Limits(NamedTuple):
    """Time limits of an extension's calls."""

    load_s: float = 20.0
    adjust_s: float = 10.0
    finish_s: float = 60.0
    watch_s: float = 5.0
    stop_s: float = 1.0


class Extensions:
    """All extensions of some folders.

    Args:
        kept: A file that lists those that were tried in a process and have not changed since.
    Attributes:
        failed: Name -> why it is off, as a sentence.
    """

    def __init__(self, folders: Sequence[Path] = (), kept: Path | None = None, limits: Limits | None = None) -> None:
        self._manager = pluggy.PluginManager(NAMESPACE)
        self._manager.add_hookspecs(Hooks)
        self._limits = limits or Limits()
        self.failed: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._logged: set[tuple[str, str]] = set()
        self._switching = threading.Lock()
        paths = [
            path
            for folder in folders
            for path in sorted(folder.glob("*/extension.py"))
            if not name_of(path).startswith((".", "_"))
        ]
        if paths:
            self._load_all(paths, kept)

    @property
    def names(self) -> tuple[str, ...]:
        """The extensions that are on."""
        return tuple(name for name, _ in self._manager.list_name_plugin())

    @property
    def sentences(self) -> tuple[str, ...]:
        """Which extensions are off, and why, as sentences."""
        return tuple(self.failed.values())

    def register(self, plugin: object, name: str) -> None:
        """Add an object with hooks; for tests and built-in ones."""
        self._manager.register(plugin, name)

    def _load_all(self, paths: Sequence[Path], kept: Path | None) -> None:
        known, states = _read_kept(kept), {path: state_of(path) for path in paths}
        # One whose state can't be read is tried each time.
        new = [path for path in paths if not states[path] or known.get(str(path)) != states[path]]
        if new:
            logger.info("Extensions that are new or changed are tried first: %s", ", ".join(map(name_of, new)))
        failures = probe(new, self._limits.load_s)
        if kept is not None and known:
            _write_kept(kept, {})  # one that ends the program here is tried again at the next start
        good: dict[str, str] = {}
        for path in paths:
            if path in failures:
                self._switch_off(name_of(path), *failures[path])
            elif self._load(path) and states[path]:
                good[str(path)] = states[path]
        if kept is not None and (good or known):
            _write_kept(kept, good)

    def _load(self, path: Path) -> bool:
        """Whether it is on."""
        name = name_of(path)
        if self._manager.has_plugin(name):
            self.failed[str(path)] = f"Extension “{name}” is there twice; {path} is left out."
            logger.error("%s", self.failed[str(path)])
            return False
        try:
            module = call_within(self._limits.load_s, partial(load_extension, path), f"extension {name} while it loads")
        except CallFailed as failure:
            logger.error("extension %s could not be loaded", name, exc_info=failure.error)
            self._switch_off(name, f"could not be loaded ({failure.reason})")
            return False
        self._manager.register(module, name)
        return True

    def _switch_off(self, name: str, reason: str, details: str = "") -> None:
        self.failed[name] = f"Extension “{name}” {reason}."
        logger.error("%s%s", self.failed[name], f"\n{details}" if details else "")
        with self._switching:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)

    def _calls(self, hook: str) -> list[pluggy.HookImpl]:
        return list(getattr(self._manager.hook, hook).get_hookimpls())

    def adjust(self, draft: RecipeDraft) -> RecipeDraft:
        """Let every extension change a draft, in order.

        Raises:
            InvalidRecipe: an extension failed, refused it, or made it one that can't be used; it is named.
        """
        for call in self._calls("adjust_recipe"):
            try:
                draft = call_within(
                    self._limits.adjust_s, partial(_adjusted, call, draft), _what(call, "adjust_recipe")
                )
            except CallFailed as failure:
                raise self._refusal(call.plugin_name, failure) from None
        return draft

    def _refusal(self, name: str, failure: CallFailed) -> InvalidRecipe:
        error = failure.error
        if isinstance(error, RequestError) and not isinstance(error, _UnusableDraft):
            return InvalidRecipe(f"Extension “{name}”: {error.message}", error.hint, code="extension_failed")
        message = f"Extension “{name}” could not change the recipe ({failure.reason})."
        if isinstance(error, _UnusableDraft):
            message = f"Extension “{name}” made a recipe that can't be used: {error.message}"
        logger.error("%s", message, exc_info=None if isinstance(error, _UnusableDraft) else error)
        if self._is_too_often(name, failure):
            return InvalidRecipe(message, "It was switched off: try again.", code="extension_failed")
        return InvalidRecipe(message, _HINT, code="extension_failed")

    def finish(self, image: RawImage, extras: dict[str, object]) -> tuple[RawImage, tuple[tuple[str, str], ...]]:
        """Let every extension change a finished picture; a failing one leaves it, with a notice."""
        notices = []
        for call in self._calls("finish_image"):
            try:
                image = call_within(
                    self._limits.finish_s, partial(_finished, call, image, extras), _what(call, "finish_image")
                )
            except CallFailed as failure:
                name = call.plugin_name
                logger.error("extension %s failed in finish_image", name, exc_info=failure.error)
                is_off = self._is_too_often(name, failure)
                notices.append(
                    (
                        "extension_failed",
                        self.failed[name] if is_off else f"Extension “{name}” failed; the picture is saved without it.",
                    )
                )
        return image, tuple(notices)

    def _is_too_often(self, name: str, failure: CallFailed) -> bool:
        """Count a failure; True if the extension is off now."""
        self._failures[name] += 1
        if failure.error is None:
            self._switch_off(name, f"gave {failure.reason} and was switched off")
        elif self._failures[name] >= MOST_FAILURES:
            self._switch_off(name, "failed three times and was switched off")
        return name in self.failed

    def watch(self, hook: str, **values: JobEvent) -> None:
        """Call the watchers (on_start, on_event, on_stop); each failure is logged once."""
        limit_s = self._limits.stop_s if hook == "on_stop" else self._limits.watch_s
        for call in self._calls(hook):
            try:
                call_within(limit_s, partial(_invoke, call, **copy.deepcopy(values)), _what(call, hook))
            except CallFailed as failure:
                key = (call.plugin_name, hook)
                if key not in self._logged:
                    self._logged.add(key)
                    logger.error("extension %s failed in %s: %s", *key, failure.reason, exc_info=failure.error)
                if failure.error is None:
                    self._is_too_often(call.plugin_name, failure)


class _UnusableDraft(InvalidRecipe):
    """An extension returned a draft that can't be used."""


def _what(call: pluggy.HookImpl, hook: str) -> str:
    return f"extension {call.plugin_name} in {hook}"


def _invoke(call: pluggy.HookImpl, **values: object) -> object:
    return call.function(*(values[name] for name in call.argnames))


def _adjusted(call: pluggy.HookImpl, draft: RecipeDraft) -> RecipeDraft:
    """Call the hook with a copy of the draft; its result is validated as if it had been posted."""
    changed = _invoke(call, draft=draft.model_copy(deep=True))
    if changed is None:
        return draft
    if not isinstance(changed, RecipeDraft):
        raise TypeError(f"adjust_recipe gave a {type(changed).__name__}")
    values = RecipeDraft.model_dump(changed, mode="json", exclude_unset=True, warnings=False)
    try:
        return parse_draft(json.dumps(values, allow_nan=False))
    except InvalidRecipe as error:
        raise _UnusableDraft(error.message, error.hint) from None


def _finished(call: pluggy.HookImpl, image: RawImage, extras: dict[str, object]) -> RawImage:
    changed = _invoke(call, image=image, extras=copy.deepcopy(extras))
    if changed is None:
        return image
    if not isinstance(changed, RawImage):
        raise TypeError(f"finish_image gave a {type(changed).__name__}")
    width, height, rgb = changed.width, changed.height, changed.rgb
    if not (type(width) is type(height) is int and width > 0 and height > 0 and isinstance(rgb, bytes)):
        raise TypeError("finish_image gave no RawImage of whole sizes and bytes")
    if width * height > MOST_PIXELS or len(rgb) != 3 * width * height:
        raise ValueError(f"finish_image gave {width}×{height} with {len(rgb):,} bytes")
    return RawImage(width, height, bytes(rgb))


def _read_kept(kept: Path | None) -> dict[str, str]:
    try:
        known = json.loads(kept.read_text("utf-8")) if kept is not None else {}
    except (OSError, ValueError):
        return {}
    if isinstance(known, dict):
        return {str(name): str(state) for name, state in known.items()}
    return {}


def _write_kept(kept: Path, good: dict[str, str]) -> None:
    new = kept.with_name(f"{kept.name}.new")
    try:
        new.write_text(json.dumps(good, indent=1, sort_keys=True), "utf-8")
        os.replace(new, kept)
    except OSError as error:
        logger.warning(
            "%s can't be written (%s): extensions are tried again at the next start", kept.name, error.strerror
        )
