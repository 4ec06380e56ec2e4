"""The map from images to values: by identity, and without keeping an image alive."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from socratic_agents.core.image_map import WeakImageMap


def blank() -> Image.Image:
    return Image.new("RGB", (1, 1))


def test_images_of_equal_pixels_are_two() -> None:
    """An image is known by its identity, and a value can be replaced and removed."""
    values: WeakImageMap[str] = WeakImageMap()
    one, other = blank(), blank()
    values[one] = "first"
    assert ("first", None) == (values.get(one), values.get(other))
    values[one] = "second"
    assert ("second", 1) == (values.get(one), len(values))
    del values[one]
    assert (None, 0) == (values.get(one), len(values))
    with pytest.raises(KeyError):
        del values[one]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(("set", "drop")))))
def test_only_living_images_have_values(steps: list[tuple[int, str]]) -> None:
    """Whatever is set and whichever images go: no value outlives its image."""
    values: WeakImageMap[int] = WeakImageMap()
    alive: dict[int, Image.Image] = {}
    expected: dict[int, int] = {}
    for number, (place, step) in enumerate(steps):
        if step == "drop":
            alive.pop(place, None)
            expected.pop(place, None)
        else:
            image = alive.setdefault(place, blank())
            values[image] = expected[place] = number
            del image
    gc.collect()
    assert expected == {place: values.get(image) for place, image in alive.items()}
    assert len(alive) == len(values)
