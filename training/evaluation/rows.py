"""The lines of the evaluation's table, and what they are about. Knows no measure: see evaluate.py and extra_rows.py."""

from dataclasses import dataclass
from pathlib import Path

from diffusers import StableDiffusionPipeline

from training.evaluation.judge import Judge


@dataclass(frozen=True)
class Row:
    """One line of the table; `reached` is None where nothing was asked."""

    what: str
    measured: str
    asked: str = ""
    reached: bool | None = None

    def line(self) -> str:
        """As a row of a Markdown table."""
        reached = "" if self.reached is None else "yes" if self.reached else "**no**"
        return f"| {self.what} | {self.measured} | {self.asked} | {reached} |"


@dataclass(frozen=True)
class Subject:
    """What is judged: the starter's folder as a pipeline, the judge, and how many prompts."""

    folder: Path
    pipeline: StableDiffusionPipeline
    judge: Judge
    prompts: int


def at_least(what: str, value: float, goal: float, unit: str = "%") -> Row:
    """A row for a value that should be large; shares are printed as percent."""
    shown = f"{value:.1%}" if unit == "%" else f"{value:.2f} {unit}"
    asked = "" if not goal else f"≥ {goal:.0%}" if unit == "%" else f"≥ {goal:g} {unit}"
    return Row(what, shown, asked, value >= goal if goal else None)
