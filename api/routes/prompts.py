"""Routes of what helps to write prompts: tags to complete."""

from fastapi import APIRouter
from pydantic import BaseModel

from api.dependencies import StudioHere
from studio.prompts.tags import Tag

router = APIRouter(tags=["prompts"])


class TagAnswer(BaseModel):
    """tags: name, category as boorus number them, how often it is used, other names; the most used first."""

    tags: tuple[Tag, ...]
    notices: tuple[str, ...]


@router.get("/prompts/tags")
def tags(studio: StudioHere) -> TagAnswer:
    """Tags to complete: those of the CSV files in tags/ of the data folder, and a small list that ships."""
    found = studio.prompts.tags()
    return TagAnswer(tags=found.tags, notices=found.notices)
