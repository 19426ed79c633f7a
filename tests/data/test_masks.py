"""Reading of masks by value and by colour, class schemes from the configuration, and class discovery."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omegaconf import OmegaConf
from PIL import Image

from satseg.data.labels.discovery import discover_scheme, scheme_from_config
from satseg.data.rasters.header import Window
from satseg.data.rasters.writing import write_raster
from satseg.errors import ConfigError, DataError, MaskValueError

COLOURS = {"land": [132, 41, 246], "water": [226, 169, 41], "road": [110, 193, 228]}
DUBAI = COLOURS | {"building": [60, 16, 152], "vegetation": [254, 221, 58]}


def save(path: Path, array: np.ndarray, palette: list[list[int]] | None = None) -> Path:
    image = Image.fromarray(array.astype(np.uint8))
    if palette:
        image.putpalette([number for colour in palette for number in colour])
    image.save(path)
    return path


def in_colour(classes: np.ndarray, table: list[list[int]]) -> np.ndarray:
    return np.array(table, np.uint8)[classes]


@given(
    st.dictionaries(st.integers(-40_000, 70_000), st.integers(0, 254), min_size=1, max_size=30),
    st.sampled_from(["int32", "int64", "float64"]),
    st.data(),
)
def test_values_decode_like_a_dictionary(values, dtype, data):
    raw = data.draw(arrays(dtype, (1, 5, 7), elements=st.sampled_from(sorted(values))))
    given_values = {f"c{i}": [v for v, k in values.items() if k == i] for i in range(255)}
    scheme = scheme_from_config({name: {"value": v} for name, v in given_values.items()})
    decoded = scheme.decode(raw, Path("mask.tif"))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == [[values[int(v)] for v in row] for row in raw[0]]


@given(st.data())
def test_colours_round_trip_through_rgb_and_palette_files(tmp_path_factory, data):
    colour = st.tuples(*[st.integers(0, 255)] * 3)
    table = [list(c) for c in data.draw(st.lists(colour, min_size=2, max_size=20, unique=True))]
    classes = data.draw(arrays(np.uint8, (6, 5), elements=st.integers(0, len(table) - 1)))
    scheme = scheme_from_config({f"c{i}": c for i, c in enumerate(table)})
    folder = tmp_path_factory.mktemp("masks")
    for path in (save(folder / "rgb.png", in_colour(classes, table)), save(folder / "p.png", classes, table)):
        np.testing.assert_array_equal(scheme.read(path), classes)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "float32"])
def test_masks_of_every_dtype_are_read(tmp_path, dtype):
    raw = np.array([[[0, 1, 2], [2, 1, 0]]], dtype)
    write_raster(tmp_path / "a.tif", raw)
    np.testing.assert_array_equal(scheme_from_config(["a", "b", "c"]).read(tmp_path / "a.tif"), raw[0])


def test_a_value_outside_the_classes_raises_an_error_with_file_value_and_remedy(tmp_path):
    path = save(tmp_path / "12.png", np.array([[0, 9], [1, 255]]))
    with pytest.raises(MaskValueError, match=r"12\.png holds value 9, but the dataset has 7 classes") as error:
        scheme_from_config(list("abcdefg")).read(path)
    assert "dataset.mask_values" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_colour_outside_the_classes_raises_an_error_for_rgb_palette_and_grey_files(tmp_path):
    scheme = scheme_from_config(COLOURS)
    for name, path in {
        "rgb": save(tmp_path / "rgb.png", np.full((2, 2, 3), [1, 2, 3])),
        "palette": save(tmp_path / "palette.png", np.zeros((2, 2)), [[1, 2, 3], [4, 5, 6]]),
    }.items():
        with pytest.raises(MaskValueError, match=rf"{name}\.png holds colour \(1, 2, 3\), but"):
            scheme.read(path)
    with pytest.raises(MaskValueError, match=r"holds colour \(7, 7, 7\), but"):
        scheme.read(save(tmp_path / "grey.png", np.full((2, 2), 7)))


@pytest.mark.parametrize("value", [0.5, 3e38, -1e30, 2.0**40])
def test_non_integer_and_huge_floats_raise_an_error_and_nan_is_ignored(value):
    raw = np.array([[[0, 1, np.nan]]])
    scheme = scheme_from_config(["a", "b"])
    assert scheme.decode(raw, Path("m.tif")).tolist() == [[0, 1, 255]]
    raw[0, 0, 0] = value
    with pytest.raises(MaskValueError, match=r"m\.tif"):
        scheme.decode(raw, Path("m.tif"))


@pytest.mark.parametrize("value", [2**64 - 1, 2**32 - 1, 2**24, 300])
def test_large_integers_do_not_wrap_around_to_a_class(value):
    with pytest.raises(MaskValueError, match=str(value)):
        scheme_from_config({"a": 0, "b": -1}).decode(np.array([[[0, value]]], np.uint64), Path("m.tif"))


def test_pixels_that_are_outside_or_nodata_or_transparent_are_ignored(tmp_path):
    scheme = scheme_from_config({"a": 1, "b": 2})
    write_raster(tmp_path / "a.tif", np.array([[[1, 2], [-9, 1]]], np.int16), nodata=-9)
    assert scheme.read(tmp_path / "a.tif").tolist() == [[1 - 1, 1], [255, 0]]
    assert scheme.read(tmp_path / "a.tif", Window(1, 0, 2, 3)).tolist() == [[1, 255], [0, 255], [255, 255]]
    write_raster(tmp_path / "b.tif", np.array([[[1, 2]]], np.uint8), nodata=1)
    assert scheme.read(tmp_path / "b.tif").tolist() == [[0, 1]]  # nodata that is also a class stays a class
    write_raster(
        tmp_path / "d.tif", np.array([[[0, 1]]], np.uint8)
    )  # GDAL fills the outside with 0, which is a class here
    assert scheme_from_config(["a", "b"]).read(tmp_path / "d.tif", Window(1, 0, 2, 1)).tolist() == [[1, 255]]
    rgba = np.array([[[132, 41, 246, 255], [5, 5, 5, 0]]])
    assert scheme_from_config(COLOURS).read(save(tmp_path / "c.png", rgba)).tolist() == [[0, 255]]


def test_grey_masks_saved_as_rgb_and_grey_masks_with_colour_classes_are_read(tmp_path):
    grey = np.array([[0, 1], [1, 255]], np.uint8)
    rgb = save(tmp_path / "rgb.png", np.dstack([grey] * 3))
    assert scheme_from_config(["a", "b"]).read(rgb).tolist() == [[0, 1], [1, 255]]
    black_white = scheme_from_config({"black": [0, 0, 0], "white": "#FFFFFF"}, {"#010101": "white"})
    assert black_white.read(save(tmp_path / "grey.png", grey)).tolist() == [[0, 1], [1, 1]]
    with pytest.raises(MaskValueError, match=r"3 bands that differ.*dataset\.classes"):
        scheme_from_config(["a", "b"]).read(save(tmp_path / "c.png", np.full((1, 1, 3), [1, 0, 0])))


def test_schemes_by_value_and_by_colour_are_read_from_the_configuration():
    scheme = scheme_from_config({"a": 3, "b": [4, 5], "c": {"value": [6, 7, 8], "color": [1, 2, 3]}}, {9: "a"}, [0])
    assert dict(scheme.values) == {3: 0, 4: 1, 5: 1, 6: 2, 7: 2, 8: 2, 9: 0, 0: 255, 255: 255}
    assert (scheme.names, scheme.palette[2], scheme.by_colour) == (("a", "b", "c"), (1, 2, 3), False)
    scheme = scheme_from_config({"a": [[0, 0, 1], [0, 1, 0]], "b": "#010000"}, {"#000002": "ignore"}, [[0, 0, 3]])
    assert dict(scheme.values) == {1: 0, 256: 0, 65536: 1, 2: 255, 3: 255}
    assert (scheme.palette, scheme.by_colour) == (((0, 0, 1), (1, 0, 0)), True)
    assert (
        scheme_from_config({"a": 0, "b": [1, 2, 3]}).values[3] == 1
    )  # three values rather than a colour, since `a` is a value
    assert scheme_from_config({"a": 0, "b": 255}).values[255] == 1
    assert scheme_from_config(DUBAI, None, [155, 155, 155]).values[155 * 0x10101] == 255


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "a"],), "must differ"),
        (({"a": 1, "b": 1},), r"classes\.b=1: value 1 is given twice"),
        (({"a": 1, "b": "x"},), r"classes\.b=x: expected a whole number"),
        (({"a": [1, 2, 3], "b": [1, 2, 999]}, {9: "c"}), "given twice"),
        ((["a", "b"], {9: "c"}), r"9 is mapped to c, but the classes are a, b"),
        ((["a", "b"], None, [1]), r"ignore_values: value 1 is given twice"),
        ((COLOURS, None, [7]), r"ignore_values=\[7\]: expected a colour"),
        (({"a": 0, "b": 2**25},), "renumber"),
        (({"a": 0, "b": {"value": 1, "color": "red"}},), r"b\.color=red"),
    ],
)
def test_an_invalid_scheme_raises_an_error_that_names_the_option(arguments, message):
    with pytest.raises(ConfigError, match=message) as error:
        scheme_from_config(*arguments)
    assert "dataset." in str(error.value)


@pytest.mark.parametrize("by_colour", [False, True])
def test_a_threshold_maps_grey_and_colour_values_to_0_or_255(tmp_path, by_colour):
    random = np.random.default_rng(0)
    grey = random.integers(0, 256, (9, 7), np.uint8)
    classes = {"ground": [0, 0, 0], "road": [255, 255, 255]} if by_colour else {"ground": 0, "road": 255}
    scheme = scheme_from_config(classes, threshold=128)
    for name, stored in {
        "grey": grey,
        "rgb": np.dstack([grey] * 3),
        "alpha": np.dstack([grey, grey * 0 + 255]),
    }.items():
        assert np.array_equal(scheme.read(save(tmp_path / f"{name}.png", stored)), grey >= 128)
    shaded = np.dstack([np.clip(grey // 128 * 255.0 + move, 0, 255) for move in (-40, 9, 30)])  # like JPEG artefacts
    assert np.array_equal(scheme.read(save(tmp_path / "shaded.png", shaded)), grey >= 128)


@pytest.mark.parametrize(("classes", "held"), [(["ground", "road"], "1"), (COLOURS, "41")])
def test_a_threshold_raises_an_error_if_a_class_could_never_occur(classes, held):
    with pytest.raises(ConfigError, match=rf"mask_threshold=128 makes 0 or 255 .* so no mask will hold {held}: give"):
        scheme_from_config(classes, threshold=128)


@pytest.mark.parametrize("threshold", [0, 256, 300, -1, True, 127.5, "half"])
def test_a_threshold_outside_1_to_255_raises_an_error(threshold):
    with pytest.raises(ConfigError, match=rf"mask_threshold={threshold}: expected a whole number from 1 to 255"):
        scheme_from_config({"ground": 0, "road": 255}, threshold=threshold)


def test_omegaconf_containers_give_the_same_scheme_as_plain_ones():
    config = OmegaConf.create({"classes": DUBAI, "ignore": [[0, 0, 0]]})
    assert scheme_from_config(config.classes, None, config.ignore) == scheme_from_config(DUBAI, None, [[0, 0, 0]])


def test_a_pickled_scheme_is_small():
    scheme = scheme_from_config(DUBAI)
    scheme.decode(np.full((3, 1, 1), 0, np.uint8) + np.array([[[132]], [[41]], [[246]]], np.uint8), Path("m"))
    data = pickle.dumps(scheme)
    assert len(data) < 2000
    assert pickle.loads(data) == scheme


def test_classes_are_discovered_by_value(tmp_path):
    first, second = save(tmp_path / "1.png", np.array([[0, 3]])), save(tmp_path / "2.png", np.array([[3, 255], [7, 7]]))
    scheme = discover_scheme([first, second])
    assert scheme.names == ("class_0", "class_3", "class_7")
    assert scheme.read(second).tolist() == [[1, 255], [2, 2]]
    assert discover_scheme([second, first]) == scheme


def test_discovery_handles_black_and_white_masks_and_large_codes(tmp_path):
    scheme = discover_scheme([save(tmp_path / "1.png", np.array([[0, 255]]))])
    assert (scheme.names, dict(scheme.values)) == (("class_0", "class_255"), {0: 0, 255: 1})
    write_raster(tmp_path / "a.tif", np.array([[[111, 523, -1]]], np.int16))
    scheme = discover_scheme([tmp_path / "a.tif"])
    assert scheme.names == ("class_111", "class_523")
    assert scheme.read(tmp_path / "a.tif").tolist() == [[0, 1, 255]]


def test_classes_are_discovered_by_colour_if_any_mask_is_rgb(tmp_path):
    table = [[0, 0, 9], [8, 0, 0]]
    palette = save(tmp_path / "1.png", np.array([[0, 1]]), table)
    rgb = save(tmp_path / "2.png", in_colour(np.array([[1, 1]]), table))
    for paths in ([palette, rgb], [rgb, palette]):
        scheme = discover_scheme(paths)
        assert (scheme.names, scheme.palette) == (("color_000009", "color_080000"), ((0, 0, 9), (8, 0, 0)))
        assert scheme.read(palette).tolist() == [[0, 1]]
        assert scheme.read(rgb).tolist() == [[1, 1]]


def test_masks_with_one_shared_palette_keep_their_values_and_use_its_colours(tmp_path):
    table = [[0, 0, 0], [128, 0, 0], [0, 128, 0], *[[224, 224, 192]] * 253]
    masks = [save(tmp_path / f"{i}.png", np.array([[0, i, 255]]), table) for i in (1, 2)]
    scheme = discover_scheme(masks)
    assert (scheme.names, scheme.palette) == (("class_0", "class_1", "class_2"), ((0, 0, 0), (128, 0, 0), (0, 128, 0)))
    assert scheme.read(masks[1]).tolist() == [[0, 2, 255]]


def test_discovery_rejects_photographs_single_values_and_fractions(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3))
    with pytest.raises(DataError, match=r"1\.png.*more than 64 different values.*JPEG"):
        discover_scheme([save(tmp_path / "1.png", noise)])
    with pytest.raises(DataError, match="at least two"):
        discover_scheme([save(tmp_path / "2.png", np.zeros((2, 2)))])
    write_raster(tmp_path / "a.tif", np.array([[[0, 0.25]]], np.float32))
    with pytest.raises(DataError, match=r"a\.tif holds 0\.25"):
        discover_scheme([tmp_path / "a.tif"])


@pytest.mark.shared
def test_real_colour_masks_decode_to_the_published_class_shares(shared_dir):
    scheme = scheme_from_config(DUBAI, None, [[155, 155, 155], [0, 0, 0]])
    paths = sorted((shared_dir / "data/dubai").glob("Tile */masks/*.png"))
    counts = sum(np.bincount(scheme.read(path).ravel(), minlength=256) for path in paths)
    shares = dict(zip((*DUBAI, "ignored"), (*(counts[: len(DUBAI)] / counts.sum()), counts[255] / counts.sum())))
    published = {"land": 52.4, "water": 13.6, "building": 13.3, "vegetation": 10.3, "road": 9.4, "ignored": 1.1}
    assert len(paths) == 72
    assert {name: 100 * share for name, share in shares.items()} == pytest.approx(published, abs=0.06)


@pytest.mark.shared
def test_a_real_mask_equals_pillow_pixel_by_pixel(shared_dir):
    scheme = scheme_from_config(DUBAI, None, [[155, 155, 155], [0, 0, 0]])
    for name in ("Tile 1/masks/image_part_001.png", "Tile 2/masks/image_part_001.png"):  # RGB, and palette
        path = shared_dir / "data/dubai" / name
        expected = np.full((*Image.open(path).size[::-1],), 255)
        for index, colour in enumerate(DUBAI.values()):
            expected[(np.asarray(Image.open(path).convert("RGB")) == colour).all(-1)] = index
        np.testing.assert_array_equal(scheme.read(path), expected)


@pytest.mark.shared
def test_a_real_mask_with_negative_nodata_is_read(shared_dir):
    path = shared_dir / "data/sen1floods11/Spain_7370579_LabelHand.tif"
    counts = np.bincount(discover_scheme([path]).read(path).ravel(), minlength=256)
    assert (counts[0], counts[1], counts[255]) == (192010, 70035, 99)
