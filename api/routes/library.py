"""Route of the Models tab: all models of all kinds, searched and paged.

`models.py` lists one kind at a time, whole.
"""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api import schemas
from api.dependencies import StudioHere
from catalog.families import label_of
from contract.values import ModelKind

router = APIRouter(tags=["models"])
_MOST = 500


class LibraryPage(BaseModel):
    """Models by kind and title. total: of all pages; kinds: how many of each the search finds."""

    models: tuple[schemas.ModelRow, ...]
    total: int
    kinds: dict[str, int]


@router.get("/library")
def library(
    studio: StudioHere,
    kind: ModelKind | None = None,
    search: Annotated[str, Query(max_length=200)] = "",
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 120,
) -> LibraryPage:
    """Models that are here, those with a problem too, searched by name, family, hash and trigger words."""
    words = search.casefold().split()
    found = []
    for entry in studio.models():
        family = label_of(entry.ref.family)
        texts = (entry.title, entry.ref.name, entry.alias, family, entry.short_hash, *entry.trigger_words)
        text = " ".join(texts).casefold() if words else ""
        if all(word in text for word in words):
            found.append(entry)
    kinds = Counter(entry.ref.kind for entry in found)
    shown = [entry for entry in found if kind in (None, entry.ref.kind)]
    return LibraryPage(
        models=schemas.model_list(shown[offset : offset + limit]).models, total=len(shown), kinds=dict(kinds)
    )
