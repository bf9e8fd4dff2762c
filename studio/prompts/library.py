"""What a house has for its prompts, in the data folder: tags/."""

from pathlib import Path

from studio.prompts.tags import TagList, read_tags


class PromptLibrary:
    """Reads anew at every call, so that what a person puts into a folder is there.

    Args:
        data_dir: The data folder; its folders are made when something is first written.
    """

    def __init__(self, data_dir: Path) -> None:
        self._tags_dir = data_dir / "tags"

    def tags(self) -> TagList:
        """Tags to complete."""
        return read_tags(self._tags_dir)
