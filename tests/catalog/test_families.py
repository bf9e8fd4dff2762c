"""Facts of families: how clip skip is counted here and elsewhere."""

import pytest

from catalog.families import FAMILIES, clip_skip_read, clip_skip_written
from contract.values import CLIP_SKIP


@pytest.mark.parametrize(
    ("family", "written", "read"),
    [
        ("sd1", 1, 1),
        ("sd1", 2, 2),
        ("sd1", 3, 3),
        ("sd1", 12, 12),
        ("sd2", 1, 1),
        ("sd2", 2, 1),
        ("sd2", 3, 2),
        ("sd2", 5, 4),
        ("sdxl", 1, 1),
        ("sdxl", 2, 1),
        ("sdxl", 3, 2),
        ("sdxl", 4, 3),
        ("sdxl", 12, 11),
        ("flux", 2, 2),
        ("unknown", 2, 2),
    ],
)
def test_other_programs_count_from_the_last_layer(family: str, written: int, read: int) -> None:
    assert clip_skip_read(written, family) == read


@pytest.mark.parametrize(
    ("family", "clip_skip", "written"),
    [
        ("sd1", 1, 1),
        ("sd1", 2, 2),
        ("sd1", 4, 4),
        ("sd2", 1, 1),
        ("sd2", 2, 3),
        ("sdxl", 1, 1),
        ("sdxl", 2, 3),
        ("sdxl", 4, 5),
    ],
)
def test_what_is_written_is_what_they_count(family: str, clip_skip: int, written: int) -> None:
    assert clip_skip_written(clip_skip, family) == written


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_is_read_back(family: str) -> None:
    for clip_skip in range(CLIP_SKIP[0], CLIP_SKIP[1] + 1):
        assert clip_skip_read(clip_skip_written(clip_skip, family), family) == clip_skip
