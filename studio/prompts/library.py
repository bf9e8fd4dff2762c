"""What a house has for its prompts, in the data folder: styles.csv, wildcards/, tags/. Drafts become concrete here."""

import secrets
from collections.abc import Iterable, Sequence
from itertools import islice, product
from pathlib import Path

from contract.errors import InvalidRecipe
from contract.recipe import MAX_PROMPT_CHARACTERS, MAX_SEED, RecipeDraft, Template
from studio.prompts.dynamic import MOST_COMBINATIONS, combinations, draw, is_dynamic
from studio.prompts.styles import Styles, apply_styles, take_styles_off
from studio.prompts.tags import TagList, read_tags
from studio.prompts.wildcards import Wildcards

_SEED_BITS = 32
_FIELDS = ("prompt", "negative_prompt")


class PromptLibrary:
    """Reads anew at every call, so that what a person puts into a folder is there.

    Args:
        data_dir: The data folder; its folders are made when something is first written.
        model_dirs: Beside them other programs keep a styles.csv.
    """

    def __init__(self, data_dir: Path, model_dirs: Iterable[Path] = ()) -> None:
        self._tags_dir = data_dir / "tags"
        self.wildcards = Wildcards(data_dir / "wildcards")
        own = data_dir / "styles.csv"
        others = [path for folder in model_dirs for path in (folder / "styles.csv", folder.parent / "styles.csv")]
        self.styles = Styles(own, [path for path in dict.fromkeys(others) if path != own])

    def tags(self) -> TagList:
        """Tags to complete."""
        return read_tags(self._tags_dir)

    def concrete(self, draft: RecipeDraft) -> tuple[RecipeDraft, ...]:
        """The drafts of a draft's jobs: prompts drawn and with their styles, as they were written kept as template.

        There is one; where prompts are drawn, one for each picture, by seeds that follow one another even where the
        pictures share theirs, as in variations.

        Raises:
            InvalidRecipe: a style or a wildcard is not here, or a template can't be read.
            UnreadableText: a wildcard can't be used.
        """
        texts = {"prompt": draft.prompt, "negative_prompt": draft.negative_prompt}
        if draft.hires:
            own = {f"hires.{name}": getattr(draft.hires, name) for name in _FIELDS}
            texts |= {field: text for field, text in own.items() if text is not None}
        for number, region in enumerate(draft.regions.regions if draft.regions else ()):
            for name in _FIELDS:
                if getattr(region, name) is not None:
                    texts[f"regions.regions.{number}.{name}"] = getattr(region, name)
        if not (draft.dynamic and any(map(is_dynamic, texts.values()))):
            plain = draft.model_copy(update={"dynamic": False}) if draft.dynamic else draft
            return (self._with_styles(plain, texts),)
        seed = secrets.randbits(_SEED_BITS) if draft.seed is None else draft.seed
        seeded = draft.model_copy(update={"seed": seed})
        drafts = []
        for index in range(draft.count):
            drawn = draw(list(texts.values()), self.wildcards, (seed + index) % (MAX_SEED + 1), list(texts))
            drafts.append(self._with_styles(seeded.for_image(index), dict(zip(texts, drawn, strict=True))))
        return tuple(drafts)

    def _with_styles(self, draft: RecipeDraft, texts: dict[str, str]) -> RecipeDraft:
        if not (draft.styles or draft.dynamic):
            return draft
        styles = self.styles.named(draft.styles)
        for field, text in texts.items():
            if field.startswith("regions."):  # styles are for the whole picture
                continue
            style_texts = [style.negative_prompt if "negative" in field else style.prompt for style in styles]
            texts[field] = apply_styles(text, style_texts)
        hires = draft.hires
        if hires:
            own = {name: texts[f"hires.{name}"] for name in _FIELDS if f"hires.{name}" in texts}
            hires = hires.model_copy(update=own)
        of_regions = []
        for number, region in enumerate(draft.regions.regions if draft.regions else ()):
            path = f"regions.regions.{number}"
            own = {name: texts[f"{path}.{name}"] for name in _FIELDS if f"{path}.{name}" in texts}
            of_regions.append(region.model_copy(update=own))
        drawn_regions = draft.regions and draft.regions.model_copy(update={"regions": tuple(of_regions)})
        for field, text in texts.items():
            if len(text) > MAX_PROMPT_CHARACTERS:
                raise InvalidRecipe(
                    f"With its styles and choices the prompt has {len(text):,} characters.",
                    f"Use at most {MAX_PROMPT_CHARACTERS:,}.",
                    field=field,
                )
        template = Template(prompt=draft.prompt, negative_prompt=draft.negative_prompt, styles=draft.styles)
        if draft.template and draft.template.styles == draft.styles and not draft.dynamic:
            template = draft.template  # of these prompts: one of its combinations
        update = {name: texts[name] for name in _FIELDS}
        done = {"styles": (), "dynamic": False, "hires": hires, "regions": drawn_regions, "template": template}
        return draft.model_copy(update={**update, **done})

    def combine(self, prompts: Sequence[str]) -> list[tuple[str, ...]]:
        """Every pair of prompt and negative prompt that two templates mean.

        Raises:
            InvalidRecipe: they are more than MOST_COMBINATIONS; else as `concrete`.
        """
        found = [combinations(text, self.wildcards, field) for text, field in zip(prompts, _FIELDS, strict=True)]
        pairs = list(islice(product(*found), MOST_COMBINATIONS + 1))
        if len(pairs) > MOST_COMBINATIONS:
            raise InvalidRecipe(
                f"The template means more than {MOST_COMBINATIONS:,} pictures.",
                "Take some of its choices out, or draw at random.",
                field="prompt",
            )
        return pairs

    def template_of(self, prompt: str, negative_prompt: str) -> Template | None:
        """What prompts were before styles that are here were applied; None where none was."""
        styles = list(self.styles.all().styles.values())
        bare, bare_negative, names = take_styles_off(prompt, negative_prompt, styles)
        return Template(prompt=bare, negative_prompt=bare_negative, styles=names) if names else None
