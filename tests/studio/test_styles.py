"""Styles: applied, found again in a picture's prompts, kept in a file that other programs and people write too."""

import json
from pathlib import Path

import pytest

from contract import events
from contract.errors import InvalidRecipe, NotFound, RequestError
from contract.recipe import RecipeDraft
from studio.prompts.styles import OWN_STYLES, Style, Styles, apply_styles, take_styles_off
from studio.studio import Studio
from tests.studio.conftest import draft, run

INK = Style(name="Ink", prompt="ink wash of {prompt}, rice paper", negative_prompt="color")
SOFT = Style(name="Soft", prompt="soft light")
DULL = Style(name="Dull", negative_prompt="dull, gray")
ALL = [INK, SOFT, DULL]


@pytest.mark.parametrize(
    ("text", "styles", "expected"),
    [
        ("a cat", [], "a cat"),
        ("a cat", ["soft light"], "a cat, soft light"),
        ("", ["soft light"], "soft light"),
        ("a cat", [""], "a cat"),
        ("a cat", ["ink of {prompt}, paper", "soft light"], "ink of a cat, paper, soft light"),
        ("a cat", ["soft light", "ink of {prompt}, paper"], "ink of a cat, soft light, paper"),
        ("a cat", ["{prompt} and {prompt}"], "a cat and a cat"),
    ],
)
def test_texts_go_where_a1111_puts_them(text: str, styles: list[str], expected: str) -> None:
    assert apply_styles(text, styles) == expected


@pytest.mark.parametrize(
    "names", [["Ink"], ["Soft"], ["Dull"], ["Soft", "Ink"], ["Ink", "Soft"], ["Ink", "Soft", "Dull"]]
)
@pytest.mark.parametrize(("prompt", "negative"), [("a cat, a dog", "blurry"), ("a cat", ""), ("", "")])
def test_what_was_applied_is_found_again(names: list[str], prompt: str, negative: str) -> None:
    styles = [next(style for style in ALL if style.name == name) for name in names]
    whole = apply_styles(prompt, [style.prompt for style in styles])
    whole_negative = apply_styles(negative, [style.negative_prompt for style in styles])
    bare, bare_negative, found = take_styles_off(whole, whole_negative, ALL)
    assert (bare, bare_negative, sorted(found)) == (prompt, negative, sorted(names))
    again = [next(style for style in ALL if style.name == name) for name in found]
    assert apply_styles(bare, [style.prompt for style in again]) == whole


@pytest.mark.parametrize("prompt", ["a cat in soft light", "a cat", "ink wash of a cat", "candlesoft light"])
def test_prompts_without_a_style_are_left_alone(prompt: str) -> None:
    assert take_styles_off(prompt, "color blind", ALL) == (prompt, "color blind", ())


def test_a_job_gets_its_styles_and_the_picture_gives_them_back(studio: Studio) -> None:
    studio.prompts.styles.put(INK)
    studio.prompts.styles.put(SOFT)
    said = run(studio, "a cat", negative_prompt="blurry", styles=("Ink", "Soft"), hires={"prompt": "a big cat"})
    record = next(event.record for event in said if isinstance(event, events.Saved))
    recipe = record.recipe
    assert recipe and recipe.prompt == "ink wash of a cat, rice paper, soft light"
    assert recipe.negative_prompt == "blurry, color"
    assert recipe.hires and recipe.hires.prompt == "ink wash of a big cat, rice paper, soft light"
    assert recipe.template and (recipe.template.prompt, recipe.template.styles) == ("a cat", ("Ink", "Soft"))
    without = recipe.model_copy(update={"template": None})
    assert recipe.identity == without.identity
    data = studio.image_file(record.id, record.owner).read_bytes()
    found = studio.read_recipe(data)
    assert found.draft and found.draft["template"] == recipe.template.model_dump(mode="json")
    assert 'Styles: "Ink, Soft", Template: a cat, Negative Template: blurry' in (found.infotext or "")
    again = RecipeDraft.model_validate_json(json.dumps(found.draft))
    assert studio.prompts.concrete(again) == (again,)  # nothing is applied twice


def test_another_programs_text_gives_its_styles_back(studio: Studio) -> None:
    studio.prompts.styles.put(INK)
    template = studio.prompts.template_of("ink wash of a fox, rice paper", "blurry, color")
    assert template and (template.prompt, template.negative_prompt, template.styles) == ("a fox", "blurry", ("Ink",))
    assert studio.prompts.template_of("a fox", "blurry") is None


def test_a_style_that_is_not_here_is_refused_by_name(studio: Studio) -> None:
    with pytest.raises(InvalidRecipe, match="Style “Nope” is not here") as caught:
        studio.submit(draft(styles=("Nope",)), "me")
    assert caught.value.field == "styles"
    with pytest.raises(InvalidRecipe, match="has 2") as caught:
        studio.prompts.styles.put(Style(name="Long", prompt="x" * 90_000))
        studio.submit(draft("y" * 90_000, styles=("Long", "Long")), "me")
    assert caught.value.field == "prompt"


def test_files_of_other_programs_are_read_and_never_written(tmp_path: Path) -> None:
    webui = tmp_path / "webui" / "styles.csv"
    webui.parent.mkdir()
    webui.write_bytes(b'\xef\xbb\xbfname,prompt,negative_prompt\r\nTheirs,"a, {prompt}",\r\nInk,theirs,\r\n')
    styles = Styles(tmp_path / "styles.csv", [webui, tmp_path / "gone.csv"])
    styles.put(INK)
    found = styles.all()
    assert found.notices == ()
    assert (found.styles["Theirs"].prompt, found.styles["Theirs"].source) == ("a, {prompt}", "webui")
    assert found.styles["Ink"].prompt == INK.prompt and found.styles["Watercolor"].source == "Darkroom"
    with pytest.raises(NotFound, match="not kept here"):
        styles.remove("Theirs")
    assert styles.remove("Ink") == INK and styles.all().styles["Ink"].prompt == "theirs"


def test_foreign_columns_and_rows_survive_a_change_and_the_old_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    old = 'name,prompt,negative_prompt,note\n-----,,,\nA,"x\ny, ""z""",n,mine\n,orphan,,\n'
    path.write_text(old, "utf-8")
    styles = Styles(path, [])
    styles.put(Style(name="B", prompt="b"))
    assert path.read_text("utf-8") == old + "B,b,,\n"
    assert (tmp_path / "styles.csv.bak").read_text("utf-8") == old
    assert styles.all().styles["A"].prompt == 'x\ny, "z"'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'name,prompt,negative_prompt\nA,"never closed,\n', "line 2: unexpected end of data"),
        (b'name,prompt,negative_prompt\nA,"x"y,z\n', "line 2"),
        (b"name,prompt,negative_prompt\nA,a,b,c,d\n", "more fields than columns"),
        (b"title,words\nA,b\n", "no column “name”"),
        (b"name,prompt\n\0\0", "no text"),
    ],
)
def test_a_damaged_file_is_named_and_never_written_over(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "styles.csv"
    path.write_bytes(data)
    styles = Styles(path, [])
    (notice,) = styles.all().notices
    assert said in notice and "Watercolor" in styles.all().styles
    for change in (lambda: styles.put(INK), lambda: styles.remove("A")):
        with pytest.raises(RequestError, match="styles.csv"):
            change()
    assert path.read_bytes() == data


def test_what_ships_is_whole() -> None:
    found = Styles(Path("none"), []).all()
    assert found.notices == () and len(found.styles) == 12 and OWN_STYLES.stat().st_size < 4_000
    assert all("{prompt}" in style.prompt and style.negative_prompt for style in found.styles.values())
