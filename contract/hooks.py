"""The whole extension contract: implement any of these in extensions/<name>/extension.py.

Two kinds: adjust_recipe and finish_image change a job; on_start, on_event and on_stop watch. An extension's values
are in recipe.extras[name].
"""

import pluggy

from contract.events import JobEvent
from contract.recipe import RecipeDraft
from contract.work import RawImage

NAMESPACE = "darkroom"
hookspec = pluggy.HookspecMarker(NAMESPACE)
hookimpl = pluggy.HookimplMarker(NAMESPACE)


class Hooks:
    """Specifications; an extension is a module or object with functions of these names."""

    @hookspec
    def adjust_recipe(self, draft: RecipeDraft) -> RecipeDraft | None:
        """Change a draft before it is resolved; None leaves it. Within 10 s.

        It is a copy, and the returned draft is checked as if it had been sent. Raising a RequestError refuses it with
        its sentence; raising anything else fails the submit, named.
        """

    @hookspec
    def finish_image(self, image: RawImage, extras: dict[str, object]) -> RawImage | None:
        """Change a finished picture; None leaves it. Within 60 s. Raising saves the original with a Notice."""

    @hookspec
    def on_start(self) -> None:
        """The studio has started."""

    @hookspec
    def on_event(self, event: JobEvent) -> None:
        """A job event other than Step. Must be quick: an extension that takes 5 s is switched off."""

    @hookspec
    def on_stop(self) -> None:
        """The studio is stopping."""
