"""Control maps: those that need no files work at once, the others say what to put where; a failure has words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from catalog.preprocessors import INPAINT, NONE, PREPROCESSORS, get_preprocessor
from contract.errors import InvalidInput, InvalidRecipe, JobError, ModelProblem
from engine.images.annotators import DETECTORS
from engine.images.maps import MAPS
from engine.images.preprocessors import Preprocessors, pixel_perfect_resolution

FREE = [p.id for p in PREPROCESSORS.values() if not p.files]


@pytest.fixture(scope="module")
def makes() -> Preprocessors:
    return Preprocessors([], torch.device("cpu"))


@pytest.fixture(scope="module")
def square() -> Image.Image:
    """A bright square on dark, 128 × 96."""
    pixels = np.full((96, 128, 3), 20, dtype=np.uint8)
    pixels[24:72, 32:96] = (220, 200, 180)
    return Image.fromarray(pixels)


def gray(image: Image.Image, size: tuple[int, int] = (128, 96)) -> np.ndarray:
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BILINEAR)).astype(int)


def test_every_preprocessor_has_one_engine() -> None:
    references = {name for name, preprocessor in PREPROCESSORS.items() if not preprocessor.needs_model}
    assert {*MAPS, *DETECTORS, *references, NONE, INPAINT} == set(PREPROCESSORS) and not {*MAPS} & {*DETECTORS}
    assert all(bool(PREPROCESSORS[name].files) == (detector.load is not None) for name, detector in DETECTORS.items())


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("size", [(128, 96), (1, 1), (30, 90)], ids=str)
def test_what_needs_no_files_works_on_every_shape(
    name: str, size: tuple[int, int], makes: Preprocessors, square: Image.Image
) -> None:
    made = makes.make(square.resize(size), name, 64)
    assert made.mode == "RGB" and min(made.size) >= 1
    assert np.array_equal(made, makes.make(square.resize(size), name, 64))  # chance included


@pytest.mark.parametrize("name", ["canny", "lineart_standard", "scribble_xdog"])
def test_lines_lie_on_the_edges(name: str, makes: Preprocessors, square: Image.Image) -> None:
    lines = gray(makes.make(square, name, 192))
    near = np.zeros((96, 128), dtype=bool)
    near[18:78, 26:102] = True
    near[30:66, 38:90] = False
    assert lines[near].mean() > 4 * (lines[~near].mean() + 0.1)


def test_thresholds_change_the_map(makes: Preprocessors, square: Image.Image) -> None:
    assert gray(makes.make(square, "threshold", 64, low=10)).min() == 255
    assert gray(makes.make(square, "threshold", 64, low=30)).min() == 0
    few, many = (np.asarray(makes.make(square, "color_grid", 64, low=side)) for side in (64, 8))
    assert len(np.unique(few.reshape(-1, 3), axis=0)) < len(np.unique(many.reshape(-1, 3), axis=0))


def test_recolor_and_invert_are_what_they_say(makes: Preprocessors, square: Image.Image) -> None:
    assert np.array_equal(
        makes.make(square, "invert", 64), 255 - np.asarray(makes.make(square, "blur_gaussian", 64, low=0.01))
    )
    value = np.asarray(makes.make(square, "recolor_intensity", 64))
    assert int(value[32, 32, 0]) == 220 and np.array_equal(value[..., 0], value[..., 2])


def test_an_annotator_is_used_when_its_file_is_there(tmp_path: Path, square: Image.Image) -> None:
    from controlnet_aux.pidi.model import pidinet

    torch.manual_seed(0)
    torch.save({"state_dict": pidinet().state_dict()}, tmp_path / "table5_pidinet.pth")
    makes = Preprocessors([tmp_path / "empty", tmp_path], torch.device("cpu"))
    made = makes.make(square, "softedge_pidinet", 64)
    assert made.size == (64, 64) and np.asarray(made).std() > 0


@pytest.mark.parametrize("name", [p.id for p in PREPROCESSORS.values() if p.files])
def test_a_missing_annotator_says_what_to_put_where(name: str, makes: Preprocessors, square: Image.Image) -> None:
    with pytest.raises(ModelProblem) as caught:
        makes.make(square, name)
    assert PREPROCESSORS[name].label in caught.value.message and "models/annotators/" in caught.value.hint
    assert all(file.name in caught.value.hint for file in PREPROCESSORS[name].files)


def test_a_damaged_annotator_fails_in_one_sentence(tmp_path: Path, square: Image.Image) -> None:
    (tmp_path / "table5_pidinet.pth").write_bytes(b"nothing")
    with pytest.raises(JobError) as caught:
        Preprocessors([tmp_path], torch.device("cpu")).make(square, "pidinet")
    assert caught.value.code == "preprocessor_failed" and "PiDiNet” failed on the control picture" in str(caught.value)


def test_an_unknown_preprocessor_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="“cany”") as caught:
        get_preprocessor("cany")
    assert caught.value.code == "invalid_preprocessor"


def test_names_of_older_programs_are_understood() -> None:
    assert get_preprocessor("lineart_standard (from white bg & black line)").id == "lineart_standard"
    assert get_preprocessor(" Depth_LeReS++ ").id == "depth_leres_boost"


@pytest.mark.parametrize("name", [name for name in FREE if PREPROCESSORS[name].has_resolution])
def test_a_picture_that_is_too_narrow_is_refused(name: str, makes: Preprocessors) -> None:
    with pytest.raises(InvalidInput, match="1 × 5000: too long and narrow"):
        makes.make(Image.new("RGB", (1, 5000)), name)


@pytest.mark.parametrize(
    ("picture", "resize", "resolution"),
    [((100, 200), "crop", 512), ((100, 200), "fill", 256), ((512, 512), "stretch", 512), ((5000, 1), "crop", 512)],
)
def test_pixel_perfect_needs_no_scaling(picture: tuple[int, int], resize: str, resolution: int) -> None:
    assert pixel_perfect_resolution(Image.new("L", picture), (512, 512), resize) == resolution
