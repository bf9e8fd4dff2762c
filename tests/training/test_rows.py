"""The lines of the evaluation's table."""

from pathlib import Path

import pytest

from training import evaluate
from training.evaluate import write_results
from training.evaluation import extra_rows, measures
from training.evaluation.judge import Judge
from training.evaluation.measures import Task
from training.evaluation.rows import Row, Subject, at_least


def test_a_share_is_printed_as_percent_and_compared_with_its_goal() -> None:
    assert at_least("thing", 0.912, 0.9).line() == "| thing | 91.2% | ≥ 90% | yes |"
    assert at_least("thing", 0.88, 0.9).line() == "| thing | 88.0% | ≥ 90% | **no** |"
    assert at_least("VAE", 28.4, 28, "dB").line() == "| VAE | 28.40 dB | ≥ 28 dB | yes |"


def test_what_was_not_asked_has_no_verdict() -> None:
    assert at_least("number", 0.5, 0).line() == "| number | 50.0% |  |  |"


def test_parts_that_are_not_there_have_no_lines(tmp_path: Path) -> None:
    subject = Subject(tmp_path / "starter", None, Judge(), 1)
    assert [row for group in extra_rows.GROUPS for row in group(subject)] == []


def test_the_table_is_kept_with_its_pictures(tmp_path: Path) -> None:
    write_results([Row("a", "1")], tmp_path / "RESULTS.md")
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| a | 1 |  |  |" in text and "results.webp" in text


@pytest.mark.parametrize("obeys", [True, False])
def test_what_nobody_asked_for_is_looked_for_again_with_its_name_as_negative_prompt(
    obeys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paint(pipeline: object, tasks: list[Task], negative: list[str] | None = None) -> list[str]:
        """Every picture shows a sun, unless that is unwanted."""
        return ["" if obeys and negative and negative[row] == "sun" else "sun" for row in range(len(tasks))]

    monkeypatch.setattr(measures, "paint", paint)
    monkeypatch.setattr(measures, "light_seen", lambda judge, pictures: pictures)
    monkeypatch.setattr(measures, "thing_seen", lambda judge, pictures: pictures)
    monkeypatch.setattr(measures, "things_seen", lambda judge, pictures, names: 1.0)
    light, thing, asked = evaluate.negative_rows(Subject(Path(), None, Judge(), 1))
    assert (
        (light.measured, light.reached)
        == (thing.measured, thing.reached)
        == (f"100.0%; {0 if obeys else 100:.1f}%", obeys)
    )
    assert asked.reached is None
