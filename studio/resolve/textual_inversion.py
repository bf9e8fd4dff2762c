"""Finds the embeddings (textual inversions) that the prompts of a draft name. Any word may be the name of one."""

from catalog.detect.embedding_names import names_in, prompt_names
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.parts import MAX_EMBEDDINGS
from contract.prompt import without_comments
from contract.recipe import ModelRef, RecipeDraft
from contract.regions import Regions
from studio.resolve.loras import network_ref
from studio.resolve.model_finder import Finder


def resolve_embeddings(
    draft: RecipeDraft, regions: Regions | None, finder: Finder, checkpoint: ModelEntry
) -> tuple[ModelRef, ...]:
    """Those that the prompts, the hires pass's or the regions' prompts name, once each.

    A recipe's own refs say which file was meant where several have the name; else they count for nothing.

    Raises:
        InvalidRecipe: one is for another family, or too many are named.
        ModelProblem: a file can't be used.
    """
    by_length = sorted(finder.models.of_kind("embedding"), key=lambda entry: len(entry.ref.name))
    entries: dict[str, ModelEntry] = {}
    for entry in by_length:
        for name in prompt_names(entry.ref.name):
            entries.setdefault(name, entry)
    meant: dict[str, ModelRef] = {}
    for ref in draft.embeddings:
        meant |= dict.fromkeys(prompt_names(ref.name), ref)
    texts: dict[str, str | None] = {"prompt": draft.prompt, "negative_prompt": draft.negative_prompt}
    texts |= {"prompt_2": draft.prompt_2, "negative_prompt_2": draft.negative_prompt_2}
    if draft.hires:
        texts |= {"hires.prompt": draft.hires.prompt, "hires.negative_prompt": draft.hires.negative_prompt}
    for number, region in enumerate(regions.regions if regions else ()):
        path = f"regions.regions.{number}"
        texts |= {f"{path}.prompt": region.prompt, f"{path}.negative_prompt": region.negative_prompt}
    found: dict[str, ModelRef] = {}
    for field, text in texts.items():
        for name in names_in(without_comments(text or ""), {*entries, *meant}):
            wanted = meant.get(name) or entries[name].ref.name
            ref = network_ref(wanted, "embedding", field, finder, checkpoint)
            found.setdefault(ref.name, ref)
    if len(found) > MAX_EMBEDDINGS:
        raise InvalidRecipe(
            f"The prompts name {len(found)} embeddings.", f"Use at most {MAX_EMBEDDINGS}.", field="embeddings"
        )
    return tuple(found.values())
