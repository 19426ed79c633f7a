"""Colour palettes of classes."""

import numpy as np
import pytest

from satseg.errors import ConfigError
from satseg.visualization.palette import IGNORED_GREY, colourise, css, default_palette

BLIND_TO_RED = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])


@pytest.mark.parametrize("count", [1, 2, 7, 8, 24, 255])
def test_default_colours_differ_from_each_other_and_from_grey_black_and_white(count):
    palette = default_palette(count)
    assert len(palette) == len(set(palette)) == count
    assert not {IGNORED_GREY, (0, 0, 0), (255, 255, 255)} & set(palette)
    assert all(type(value) is int and 0 <= value <= 255 for colour in palette for value in colour)
    assert default_palette(255)[:count] == palette


def test_default_colours_are_distinguishable_with_red_colour_blindness():
    linear = (np.array(default_palette(12)) / 255) ** 2.2
    seen = (255 * np.clip(linear @ BLIND_TO_RED.T, 0, 1) ** (1 / 2.2)).round()
    gaps = np.abs(seen[:, None] - seen[None]).max(-1) + 999 * np.eye(12)
    assert gaps.min() >= 20


@pytest.mark.parametrize("count", [0, 256])
def test_a_palette_of_an_invalid_size_raises_an_error(count):
    with pytest.raises(ConfigError, match="1 to 255"):
        default_palette(count)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int16])
def test_colourise_gives_classes_their_colours_and_other_values_grey(dtype):
    mask = np.array([[0, 1, 2], [255, 1, 7]], dtype)
    grey = list(IGNORED_GREY)
    expected = [[[9, 8, 7], [0, 255, 1], [3, 3, 3]], [grey, [0, 255, 1], grey]]
    coloured = colourise(mask, ((9, 8, 7), (0, 255, 1), (3, 3, 3)))
    assert coloured.dtype == np.uint8
    assert coloured.tolist() == expected


def test_colourise_respects_the_ignore_index():
    assert colourise(np.array([[0, 1]]), ((1, 1, 1), (2, 2, 2)), ignore_index=0).tolist() == [
        [list(IGNORED_GREY), [2, 2, 2]]
    ]


def test_css_writes_two_digits_per_channel():
    assert css((0, 15, 255)) == "#000fff"
