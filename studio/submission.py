"""Turns drafts and tasks into queued jobs: runs the extensions, resolves, checks, collects notices.

Queued jobs are tracked in `jobs/job_tracker.py`.
"""

from functools import cache

from catalog.detect.embedding_names import prompt_names
from contract.errors import InvalidRecipe, RequestError
from contract.recipe import RecipeDraft
from contract.records import JobHandle
from contract.tasks import Generate, Preprocess, Upscale
from studio.extensions import Extensions
from studio.gallery.gallery import Gallery
from studio.jobs.idempotency import Once
from studio.jobs.job_tracker import JobTracker
from studio.jobs.queue import JobQueue, NewJob
from studio.jobs.saver import Notices
from studio.library.hash_lookup import HashLookup
from studio.library.model_list import ModelList
from studio.metadata.import_recipe import FoundRecipe, read_recipe
from studio.prompts.library import PromptLibrary
from studio.resolve.check_ahead import check_ahead
from studio.resolve.controls import resolve_preprocess
from studio.resolve.draft import Resolved, resolve
from studio.resolve.model_finder import Finder
from studio.resolve.no_effect import without_effect
from studio.resolve.parts import resolve_upscale
from studio.resolve.prompt_notes import prompt_notes
from studio.resolve.sampler_choice import settle_noise
from studio.resolve.vocabulary import unknown_words
from studio.uploads.owned_uploads import OwnedUploads


class Submission:
    """Resolves and queues what people ask for.

    Args:
        max_pixels: The largest image that is made.
    """

    def __init__(
        self,
        max_pixels: int,
        models: ModelList,
        hashes: HashLookup,
        uploads: OwnedUploads,
        gallery: Gallery,
        extensions: Extensions,
        prompts: PromptLibrary,
        queue: JobQueue,
        tracker: JobTracker,
    ) -> None:
        self._max_pixels = max_pixels
        self._models = models
        self._hashes = hashes
        self._uploads = uploads
        self._gallery = gallery
        self._extensions = extensions
        self._prompts = prompts
        self._queue = queue
        self._tracker = tracker
        self._once = Once()

    def submit(
        self, draft: RecipeDraft, owner: str, *, session: str | None = None, key: str | None = None
    ) -> JobHandle:
        """As of `Studio.submit`."""

        def queue_jobs() -> JobHandle:
            self._models.catch_up()
            asked: list[NewJob] = []
            noise = settle_noise(draft.noise, draft.count)  # a variation's seed is the same for all jobs
            for concrete in self._prompts.concrete(draft.model_copy(update={"noise": noise})):
                adjusted = self._extensions.adjust(concrete)
                found, notices = self._resolve(adjusted, owner)
                task = Generate(recipe=found.recipe, parent=self._known_parent(adjusted.parent, owner))
                asked.append((task, notices))
            return self._tracker.enqueue_all(asked, owner, session)

        return self._once.begin(owner, key, queue_jobs)

    def upscale(self, task: Upscale, owner: str, *, session: str | None = None) -> JobHandle:
        """As of `Studio.upscale`."""
        finder = self.finder()
        parent = self._known_parent(task.parent, owner)
        resolved = resolve_upscale(task, finder, self._uploads.sizes_of(owner), self._max_pixels)
        task = resolved.model_copy(update={"parent": parent})
        return self._tracker.enqueue(task, owner, session, finder.notices)

    def preprocess(self, task: Preprocess, owner: str, *, session: str | None = None) -> JobHandle:
        """As of `Studio.preprocess`."""
        task = resolve_preprocess(task, self._models, self._uploads.sizes_of(owner))
        return self._tracker.enqueue(task, owner, session)

    def rerun(self, job_id: str, owner: str, *, session: str | None = None) -> JobHandle:
        """As of `Studio.rerun`."""
        task = self._queue.record(job_id, owner).task
        match task:
            case Generate():
                draft = RecipeDraft.read(task.recipe.canonical_json())
                return self.submit(draft.model_copy(update={"parent": task.parent}), owner, session=session)
            case Upscale():
                return self.upscale(task, owner, session=session)
            case Preprocess():
                return self.preprocess(task, owner, session=session)
        raise RequestError("Only jobs that make pictures can be run again.", "Start it again.", code="not_repeated")

    def read_recipe(self, data: bytes, owner: str) -> FoundRecipe:
        """As of `Studio.read_recipe`."""

        def check(draft: RecipeDraft) -> None:
            try:
                adjusted = self._extensions.adjust(draft)
            except InvalidRecipe:
                return  # an extension's failure is not the image's, and leaving out a field fixes nothing
            self._resolve(adjusted, owner)

        found = read_recipe(data, self._models, self._hashes.find_any, check=check)
        if found.draft is None or "template" in found.draft:
            return found
        prompts = (str(found.draft.get(name, "")) for name in ("prompt", "negative_prompt"))
        template = self._prompts.template_of(*prompts)
        if template is None:
            return found
        return found.model_copy(update={"draft": found.draft | {"template": template.model_dump(mode="json")}})

    def _resolve(self, draft: RecipeDraft, owner: str) -> tuple[Resolved, Notices]:
        """The recipe and its notices. Raises as `submit`."""
        uploads = self._uploads.files
        size_of = self._uploads.sizes_of(owner)
        found = resolve(draft, self.finder(), max_pixels=self._max_pixels, size_of=size_of)
        recipe, entry = found.recipe, found.entry
        gray_range = cache(uploads.gray_range)
        check_ahead(recipe, entry, gray_range)
        embeddings: list[str] = []
        for ref in recipe.embeddings:
            embeddings += prompt_names(ref.name)
        prompts = [recipe.prompt]
        for region in recipe.regions.regions if recipe.regions else ():
            prompts.append(region.prompt)
        return found, (
            *found.notices,
            *unknown_words(" ".join(prompts), entry, embeddings),
            *prompt_notes(recipe, takes_strength=entry.variant != "edit"),
            *without_effect(recipe, entry, uploads.picture, uploads.notes, gray_range),
        )

    def finder(self) -> Finder:
        """Looks models up for one draft."""
        return Finder(self._models, self._hashes.known, self._hashes.find)

    def _known_parent(self, parent: str | None, owner: str) -> str | None:
        """A parent is provenance: one that was deleted meanwhile (or is another's) holds nothing up."""
        if parent is None or not self._gallery.find(parent, owner):
            return None
        return parent
