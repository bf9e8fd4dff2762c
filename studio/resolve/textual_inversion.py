"""Which embeddings (textual inversions) the prompts of a draft name, as refs. Any word may be one's name."""

from catalog.detect.embedding_names import names_in, prompt_names
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.parts import MAX_EMBEDDINGS
from contract.prompt import without_comments
from contract.recipe import ModelRef, RecipeDraft
from studio.resolve.loras import net_ref
from studio.resolve.model_finder import Finder


def resolve_embeddings(draft: RecipeDraft, finder: Finder, checkpoint: ModelEntry) -> tuple[ModelRef, ...]:
    """Those that prompt, negative prompt or the hires pass's prompts name, once each.

    A recipe's own refs say which file was meant where several have the name; else they count for nothing.

    Raises:
        InvalidRecipe: one is for another family, or too many are named.
        ModelProblem: a file can't be used.
    """
    entries: dict[str, ModelEntry] = {}
    for entry in sorted(finder.models.of_kind("embedding"), key=lambda entry: len(entry.ref.name)):
        for name in prompt_names(entry.ref.name):
            entries.setdefault(name, entry)
    meant = {name: ref for ref in draft.embeddings for name in prompt_names(ref.name)}
    found: dict[str, ModelRef] = {}
    for field, text in _texts(draft).items():
        for name in names_in(text, {*entries, *meant}):
            wanted = meant.get(name) or entries[name].ref.name
            ref = net_ref(wanted, "embedding", field, finder, checkpoint)
            found.setdefault(ref.name, ref)
    if len(found) > MAX_EMBEDDINGS:
        raise InvalidRecipe(
            f"The prompts name {len(found)} embeddings.", f"Use at most {MAX_EMBEDDINGS}.", field="embeddings"
        )
    return tuple(found.values())


def _texts(draft: RecipeDraft) -> dict[str, str]:
    hires = draft.hires
    texts = {
        "prompt": draft.prompt,
        "negative_prompt": draft.negative_prompt,
        "hires.prompt": hires.prompt if hires else None,
        "hires.negative_prompt": hires.negative_prompt if hires else None,
    }
    return {field: without_comments(text) for field, text in texts.items() if text}
