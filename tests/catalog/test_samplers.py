"""Samplers by every name in use, and only pairs that make sense."""

import pytest

from catalog.samplers import (
    SAMPLERS,
    SCHEDULES,
    find_sampler,
    find_schedule,
    resolve_schedule,
    schedules_for,
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Euler a", "euler_a"),
        ("euler_a", "euler_a"),
        ("K_EULER_ANCESTRAL", "euler_a"),
        ("  dpm++ 2m ", "dpmpp_2m"),
        ("DPM++ 2M SDE", "dpmpp_2m_sde"),
        ("uni_pc", "unipc"),
        ("nothing", None),
        ("", None),
    ],
)
def test_a_sampler_is_found_by_id_label_or_alias(name: str, found: str | None) -> None:
    sampler = find_sampler(name)
    assert (sampler.id if sampler else None) == found


def test_no_name_means_two_things() -> None:
    for find, items in ((find_sampler, SAMPLERS), (find_schedule, SCHEDULES)):
        for item in items.values():
            for name in (item.id, item.label, *item.aliases):
                assert find(name) is item, name


def test_automatic_is_offered_everywhere_and_stands_for_something_offered() -> None:
    for sampler in SAMPLERS.values():
        for zero_snr in (False, True):
            offered = schedules_for(sampler, zero_snr=zero_snr)
            assert set(offered) <= set(SCHEDULES) and offered[0] == "automatic"
            assert resolve_schedule(sampler, "automatic", zero_snr=zero_snr) in offered


def test_ids_are_their_keys_and_orders_count_evaluations() -> None:
    assert all(key == sampler.id for key, sampler in SAMPLERS.items())
    assert SAMPLERS["euler"].evaluations(20) == 20 and SAMPLERS["heun"].evaluations(20) == 39
