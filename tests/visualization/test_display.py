"""RGB display of images, overlays, and error maps."""

import numpy as np
import pytest

from satseg.errors import BandError, ConfigError
from satseg.visualization.display import display_bands, display_rgb
from satseg.visualization.overlays import overlay, show_errors
from satseg.visualization.palette import ERROR_RED, IGNORED_GREY


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("blue", "green", "red", "nir"), [2, 1, 0]),
        (("B02", "B03", "B04", "B08"), [2, 1, 0]),
        (("red edge", "B2 - blue", "B3 - green", "B4 - red"), [3, 2, 1]),
        (("a", "b", "c", "d"), [0, 1, 2]),
        (("vv", "vh"), [0, 0, 0]),
        (("pan",), [0, 0, 0]),
    ],
)
def test_red_green_and_blue_are_found_by_name(names, expected):
    assert display_bands(names) == expected


def test_raw_values_are_stretched_between_low_and_high_per_band():
    image = np.array([[[100, 200, 300]], [[0, 5, 10]], [[0, 1000, 5000]]], np.uint16)
    valid = np.array([[True, True, False]])
    rgb = display_rgb(image, valid, low=(100, 0, 0), high=(300, 10, 2000))
    assert rgb.dtype == np.uint8
    assert rgb.tolist() == [[[0, 0, 0], [128, 128, 128], [0, 0, 0]]]


def test_uint8_images_pass_unchanged_with_constants_0_and_255():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, 0)
    image[1] = image[1][::-1]
    rgb = display_rgb(image, np.ones((16, 16), bool), (0,), (255,))
    np.testing.assert_array_equal(rgb, np.moveaxis(image, 0, -1))


def test_bands_can_be_selected():
    image = np.arange(5).reshape(5, 1, 1) * 10
    rgb = display_rgb(image, np.ones((1, 1), bool), (0,), (255,), bands=(4, 0, 2))
    assert rgb.tolist() == [[[40, 0, 20]]]


@pytest.mark.parametrize("bands", [(0, 1), (0, 1, 2), (0, -1, 0)])
def test_missing_bands_raise_an_error(bands):
    with pytest.raises(BandError, match="three indices, each from 0 to 1"):
        display_rgb(np.zeros((2, 1, 1)), np.ones((1, 1), bool), (0,), (1,), bands=bands)


@pytest.mark.filterwarnings("error")
def test_nan_infinity_and_constant_bands_give_colours_without_warnings():
    image = np.array([[[np.nan, np.inf, -np.inf, 1e300, 7.0]]] * 3)
    rgb = display_rgb(image, np.ones((1, 5), bool), low=(7.0,), high=(7.0,))
    assert rgb[0, :, 0].tolist() == [0, 255, 0, 255, 0]


@pytest.mark.parametrize(("opacity", "expected"), [(0, [10, 100, 200]), (1, [255, 0, 0]), (0.25, [71, 75, 150])])
def test_overlay_mixes_by_opacity(opacity, expected):
    rgb = np.full((2, 2, 3), (10, 100, 200), np.uint8)
    colours = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    mixed = overlay(rgb, colours, opacity)
    assert mixed.dtype == np.uint8
    assert (mixed == expected).all()


def test_an_opacity_outside_0_to_1_raises_an_error():
    with pytest.raises(ConfigError, match=r"opacity=1\.5"):
        overlay(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), 1.5)


def test_errors_are_red_ignored_pixels_grey_and_correct_pixels_pale():
    rgb = np.full((1, 4, 3), 100, np.uint8)
    picture = show_errors(rgb, np.array([[0, 1, 255, 2]]), np.array([[0, 0, 1, 2]]), num_classes=2)
    assert picture[0, 1].tolist() == list(ERROR_RED)
    assert picture[0, 2].tolist() == picture[0, 3].tolist() == list(IGNORED_GREY)
    assert len(set(picture[0, 0].tolist())) == 1
    assert picture[0, 0, 0] > 200
