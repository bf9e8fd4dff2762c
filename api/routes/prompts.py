"""Routes of what helps to write prompts: tags, styles, wildcards, the combinations of a template.

Styles and wildcards are files that all share, so only the owner of the machine changes them.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from api.dependencies import Editor, JsonBody, StudioHere, body_schema, refusal_to_manage
from contract.recipe import Frozen
from contract.validation import parse_request
from contract.values import Name, Prompt
from studio.prompts.styles import Style, StyleText
from studio.prompts.tags import Tag
from studio.prompts.wildcards import WildcardFacts

router = APIRouter(tags=["prompts"])
FileName = Annotated[str, Path(max_length=300)]


class TagAnswer(BaseModel):
    """tags: name, category as boorus number them, how often it is used, other names; the most used first."""

    tags: tuple[Tag, ...]
    notices: tuple[str, ...]


class StyleAnswer(BaseModel):
    """notices: sentences on damaged files. refusal: why the caller can't change any; "" if they can."""

    styles: tuple[Style, ...]
    notices: tuple[str, ...]
    refusal: str


class WildcardAnswer(BaseModel):
    """refusal: as of StyleAnswer. folder: where the files lie, for the machine's owner."""

    wildcards: tuple[WildcardFacts, ...]
    refusal: str
    folder: str


class WildcardText(BaseModel):
    """A line is one choice."""

    name: str
    text: str


class CombinationAnswer(BaseModel):
    """total: how many pictures the template means; prompts: each prompt with its negative prompt."""

    total: int
    prompts: tuple[tuple[str, ...], ...]


class StyleDraft(Frozen):
    """A style to keep, in place of one of that name."""

    name: Name
    prompt: StyleText = ""
    negative_prompt: StyleText = ""


class WildcardDraft(Frozen):
    """The text of a wildcard. is_new: refuse if there is one of that name."""

    text: Annotated[str, Field(max_length=4_000_000)]
    is_new: bool = False


class TemplateDraft(Frozen):
    """Two templates."""

    prompt: Prompt
    negative_prompt: Prompt = ""


BODIES = (StyleDraft, WildcardDraft, TemplateDraft)


def _body(kind: type[BaseModel]) -> dict[str, object]:
    return body_schema("application/json", {"$ref": f"#/components/schemas/{kind.__name__}"})


@router.get("/prompts/tags")
def tags(studio: StudioHere) -> TagAnswer:
    """Tags to complete: those of the CSV files in tags/ of the data folder, and a small list that ships."""
    found = studio.prompts.tags()
    return TagAnswer(tags=found.tags, notices=found.notices)


@router.post("/prompts/combinations", openapi_extra=_body(TemplateDraft))
def combinations(studio: StudioHere, body: JsonBody) -> CombinationAnswer:
    """Every prompt that a template with {a|b} and __wildcards__ means; refused above 1,000."""
    draft = parse_request(TemplateDraft, body)
    found = studio.prompts.combine((draft.prompt, draft.negative_prompt))
    return CombinationAnswer(total=len(found), prompts=tuple(found))


@router.get("/styles")
def styles(studio: StudioHere, request: Request) -> StyleAnswer:
    """Styles: those of the data folder, of other programs beside --models, and those that ship."""
    found = studio.prompts.styles.all()
    refusal = refusal_to_manage(request, "styles and wildcards")
    return StyleAnswer(
        styles=tuple(found.styles.values()), notices=found.notices, refusal=refusal.message if refusal else ""
    )


@router.post("/styles", openapi_extra=_body(StyleDraft), dependencies=[Editor])
def put_style(studio: StudioHere, body: JsonBody) -> Style:
    """Keep a style in styles.csv of the data folder, in place of one of that name."""
    draft = parse_request(StyleDraft, body)
    style = Style(name=draft.name.strip(), prompt=draft.prompt, negative_prompt=draft.negative_prompt)
    studio.prompts.styles.put(style)
    return style


@router.delete("/styles/{name:path}", dependencies=[Editor])
def remove_style(studio: StudioHere, name: FileName) -> Style:
    """Remove a style of the data folder; the answer brings it back."""
    return studio.prompts.styles.remove(name)


@router.get("/wildcards")
def wildcards(studio: StudioHere, request: Request) -> WildcardAnswer:
    """The wildcards of the data folder, with their first lines."""
    refusal = refusal_to_manage(request, "styles and wildcards")
    return WildcardAnswer(
        wildcards=studio.prompts.wildcards.all(),
        refusal=refusal.message if refusal else "",
        folder="" if refusal else str(studio.prompts.wildcards.folder),
    )


@router.get("/wildcards/{name:path}")
def wildcard(studio: StudioHere, name: FileName) -> WildcardText:
    """The whole text of a wildcard."""
    return WildcardText(name=name, text=studio.prompts.wildcards.text(name))


@router.put("/wildcards/{name:path}", openapi_extra=_body(WildcardDraft), dependencies=[Editor])
def put_wildcard(studio: StudioHere, name: FileName, body: JsonBody) -> WildcardText:
    """Write a wildcard."""
    draft = parse_request(WildcardDraft, body)
    studio.prompts.wildcards.put(name, draft.text, is_new=draft.is_new)
    return WildcardText(name=name, text=draft.text)


@router.delete("/wildcards/{name:path}", dependencies=[Editor])
def remove_wildcard(studio: StudioHere, name: FileName) -> WildcardText:
    """Remove a wildcard; the answer brings it back."""
    return WildcardText(name=name, text=studio.prompts.wildcards.remove(name))
