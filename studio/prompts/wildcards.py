"""The wildcards of the data folder: wildcards/animals.txt is __animals__, wildcards/places/sea.txt is __places/sea__.

A line is one choice; empty lines and those that begin with # are none, and “2::fox” is drawn twice as often. Names are
looked up among the files that are there, so nothing outside of the folder can be named.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from contract.errors import NotFound, RequestError
from contract.recipe import Frozen
from studio.prompts.text_files import UnreadableText, read_text, write_text

MOST_BYTES = 4_000_000
_MOST_FILES = 5_000
_MOST_DEPTH = 8
_NAME = re.compile(r"(?!.*__)[^\W_][\w .()'&+-]{0,79}(?:/[^\W_][\w .()'&+-]{0,79}){0,7}")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


class WildcardFacts(Frozen):
    """A wildcard as it is listed. problem: why it can't be used; "" where it can."""

    name: str
    count: int = 0
    preview: tuple[str, ...] = ()
    problem: str = ""


class Wildcards:
    """Args: folder: Theirs; made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> tuple[WildcardFacts, ...]:
        """Every wildcard by name, with its first lines; what can't be used says why."""
        found = []
        for name, path in sorted(self._files()):
            try:
                lines = choices(read_text(path, MOST_BYTES))
                found.append(
                    WildcardFacts(name=name, count=len(lines), preview=tuple(line[:120] for line in lines[:5]))
                )
            except UnreadableText as error:
                found.append(WildcardFacts(name=name, problem=f"{error.message} {error.hint}"))
        return tuple(found)

    def text(self, name: str) -> str:
        """The file of a wildcard.

        Raises:
            NotFound: there is none of that name.
            UnreadableText: it can't be used; names it.
        """
        path = dict(self._files()).get(name)
        if path is None:
            raise NotFound(f"There is no wildcard “{name[:80]}”.", "Look at the list.", field="name")
        return read_text(path, MOST_BYTES)

    def choices_of(self, pattern: str) -> list[str]:
        """The choices of a wildcard, or of all whose names a pattern with * matches; [] where there is none.

        Raises:
            UnreadableText: one can't be used; names it.
        """
        # A * stands for a name or a part of one, ** for folders too.
        parts = re.split(r"(\*+)", pattern)
        wanted = re.compile(
            "".join({"": "", "*": "[^/]*"}.get(part, ".*") if set(part) <= {"*"} else re.escape(part) for part in parts)
        )
        found: dict[str, None] = {}
        for name, path in sorted(self._files()):
            if wanted.fullmatch(name):
                found.update(dict.fromkeys(choices(read_text(path, MOST_BYTES))))
        return list(found)

    def put(self, name: str, text: str, *, is_new: bool = False) -> None:
        """Write a wildcard.

        Raises:
            RequestError: the name can't be one or is taken, or the text is too long.
            StudioError: it can't be written.
        """
        if not _NAME.fullmatch(name) or any(
            _RESERVED.fullmatch(part) or part.endswith((".", " ")) for part in name.split("/")
        ):
            raise RequestError(
                f"“{name[:80]}” can't be the name of a wildcard.",
                "Use letters, digits, spaces and -; folders by /.",
                field="name",
            )
        files = dict(self._files())
        same = next((other for other in files if other.lower() == name.lower()), None)
        if same is not None and (is_new or same != name):
            raise RequestError(f"There is a wildcard “{same}” already.", "Choose another name.", field="name")
        if len(text.encode()) > MOST_BYTES:
            raise RequestError(f"The text is larger than {MOST_BYTES / 1e6:g} MB.", "Split it.", field="text")
        path = files.get(name) or self.folder / f"{name}.txt"
        folder = path.parent
        while folder != self.folder:
            if folder.is_symlink():
                raise RequestError(
                    f"{folder.name} is a link, which is not followed.", "Choose another folder.", field="name"
                )
            folder = folder.parent
        write_text(path, text if text.endswith("\n") or not text else f"{text}\n")

    def remove(self, name: str) -> str:
        """Remove a wildcard, and return its text. Raises NotFound, UnreadableText."""
        text = self.text(name)
        path = dict(self._files())[name]
        path.replace(path.with_name(f"{path.name}.bak"))
        return text

    def _files(self) -> Iterator[tuple[str, Path]]:
        """(name, file) of every .txt file; links are not followed."""
        waiting = [(self.folder, "", 0)]
        count = 0
        while waiting:
            folder, prefix, depth = waiting.pop()
            try:
                entries = sorted(folder.iterdir())
            except OSError:
                continue
            for entry in entries:
                if entry.is_symlink() or entry.name.startswith("."):
                    continue
                if entry.is_dir() and depth < _MOST_DEPTH:
                    waiting.append((entry, f"{prefix}{entry.name}/", depth + 1))
                elif entry.suffix.lower() == ".txt":
                    count += 1
                    if count > _MOST_FILES:
                        return
                    yield f"{prefix}{entry.stem}", entry


def choices(text: str) -> list[str]:
    """The lines of a wildcard's text that can be drawn."""
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]
