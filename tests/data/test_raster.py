"""Reading and writing of rasters: windows, bands, valid pixels, headers and errors."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rasterio.enums import ColorInterp

from satseg.data.rasters.header import Window, read_info, read_real_info
from satseg.data.rasters.raster import read_image, read_strips, read_window
from satseg.data.rasters.writing import write_raster
from satseg.errors import BandError, DataError, RasterReadError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

HOSTILE = ["a b.tif", "a,b.tif", "a=b.tif", "a (1).tif", "Zürich_東京.tif", "a'b\"c.tif", "[x]*?.tif", "a%20b#c.tif"]
RNG = np.random.default_rng(5)


def raster(path: Path, array: np.ndarray, **options: object) -> Path:
    """Write a raster with rasterio."""
    count, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=array.dtype, **options
    ) as target:
        target.write(array)
    return path


def numbers(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return RNG.integers(1, 200, shape).astype(dtype)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    array = numbers((3, 11, 17), "int16")
    return raster(tmp_path_factory.mktemp("raster") / "plain.tif", array, nodata=-7), array


@given(st.integers(-30, 30), st.integers(-30, 30), st.integers(1, 40), st.integers(1, 40))
def test_any_window_has_the_values_of_the_raster_inside_and_nodata_outside(plain, col, row, width, height):
    path, array = plain
    expected = np.pad(array, ((0, 0), (80, 80), (80, 80)), constant_values=-7)
    expected = expected[:, row + 80 : row + 80 + height, col + 80 : col + 80 + width]
    inside = np.pad(np.ones(array.shape[1:], bool), 80)[row + 80 : row + 80 + height, col + 80 : col + 80 + width]

    window = read_window(path, Window(col, row, width, height))
    image, valid = read_image(path, Window(col, row, width, height))

    assert window.dtype == np.int16
    np.testing.assert_array_equal(window, expected)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(valid, inside)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_bands_are_read_in_their_dtype_and_in_the_requested_order(tmp_path, dtype):
    array = numbers((4, 5, 6), dtype)
    path = raster(tmp_path / "a.tif", array, photometric="minisblack")
    assert read_window(path).dtype == dtype
    np.testing.assert_array_equal(read_window(path, bands=[4, 1, 1]), array[[3, 0, 0]])


def test_a_missing_band_raises_an_error_that_lists_the_existing_ones(plain):
    with pytest.raises(BandError, match=r"plain\.tif has no band 4, only 1, 2, 3"):
        read_window(plain[0], bands=[1, 4])
    with pytest.raises(BandError):
        read_window(plain[0], bands=[0])


def test_pixels_outside_the_raster_are_zero_or_nan_according_to_its_nodata(tmp_path):
    path = raster(tmp_path / "a.tif", numbers((1, 2, 2)))
    assert read_window(path, Window(5, 5, 1, 1)).tolist() == [[[0]]]
    path = raster(tmp_path / "b.tif", numbers((1, 2, 2), "float32"), nodata=float("nan"))
    assert np.isnan(read_window(path, Window(5, 5, 1, 1))).all()


def test_a_pixel_is_invalid_if_any_band_is_nodata_or_not_finite(tmp_path):
    array = numbers((2, 1, 6), "float32")
    array[:, 0, 0], array[0, 0, 1], array[0, 0, 2], array[1, 0, 3] = -99, -99, np.nan, np.inf
    path = raster(tmp_path / "a.tif", array, nodata=-99)
    assert read_image(path)[1].tolist() == [[False, False, False, False, True, True]]
    array[:, 0, 5] = 3
    path = raster(tmp_path / "b.tif", array, nodata=-99)
    assert read_image(path, nodata=3)[1].tolist() == [[True, True, False, False, True, False]]
    assert read_image(path, bands=[1])[1].tolist() == [[False, False, False, True, True, True]]


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 255), ("uint8", 0), ("uint16", 0), ("float32", 0)])
def test_nodata_values_that_are_plausible_data_count_only_if_all_bands_have_them(tmp_path, dtype, nodata):
    array = np.full((2, 1, 3), 7, dtype)
    array[:, 0, 0], array[0, 0, 1] = nodata, nodata
    assert read_image(raster(tmp_path / "a.tif", array, nodata=nodata))[1].tolist() == [[False, True, True]]


def test_complex_rasters_raise_an_error(tmp_path):
    path = raster(tmp_path / "a.tif", np.ones((1, 4, 4), np.complex64))
    with pytest.raises(RasterReadError, match=r"a\.tif holds complex numbers; write their amplitude"):
        read_real_info(path)
    assert read_info(path).dtype == "complex64"


def test_strips_add_up_to_the_whole_raster(tmp_path, monkeypatch):
    monkeypatch.setattr("satseg.data.rasters.raster.STRIP_VALUES", 1)
    monkeypatch.setattr("satseg.data.rasters.raster.STRIP_ROWS", 3)
    array = numbers((2, 10, 6), "uint16")
    strips = list(read_strips(raster(tmp_path / "a.tif", array)))
    assert [strip.shape[1] for strip in strips] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(strips, axis=1), array)


def test_an_alpha_band_is_a_mask_unless_it_is_requested(tmp_path):
    colours, alpha = numbers((3, 3, 3), "uint8"), np.full((3, 3), 255, np.uint8)
    alpha[1, 2] = 0
    path = tmp_path / "a.png"
    Image.fromarray(np.dstack([*colours, alpha])).save(path)
    image, valid = read_image(path)
    np.testing.assert_array_equal(image, colours)
    np.testing.assert_array_equal(valid, alpha > 0)
    assert read_info(path).count == 3
    image, valid = read_image(path, bands=[1, 2, 3, 4])
    assert image.shape == (4, 3, 3)
    assert valid.all()


def test_a_mask_band_marks_invalid_pixels(tmp_path):
    path = tmp_path / "a.tif"
    mask = np.array([[255, 0], [255, 255]], np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        raster(path, numbers((2, 2, 2)))
        with rasterio.open(path, "r+") as target:
            target.write_mask(mask)
    np.testing.assert_array_equal(read_image(path)[1], mask > 0)
    assert read_image(path, Window(-1, 0, 3, 1))[1].tolist() == [[False, True, False]]


@pytest.mark.parametrize("name", HOSTILE)
def test_paths_with_spaces_punctuation_and_unicode_are_written_and_read(tmp_path, name):
    array = numbers((2, 4, 4))
    path = tmp_path / "a folder, (with) = ünïcode" / name
    write_raster(path, array)
    np.testing.assert_array_equal(read_window(path), array)
    assert read_info(path).path == path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_truncated_file_raises_an_error_of_one_line_that_names_it(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(RNG.integers(0, 255, (200, 200, 3), np.uint8)).save(path)
    read_window(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RasterReadError, match="cannot be read; it is truncated") as error:
        read_window(path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (b"not a raster", "not a raster")])
def test_an_empty_file_and_a_text_file_raise_an_error(tmp_path, content, reason):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    for read in (read_info, read_window, read_image):
        with pytest.raises(RasterReadError, match=rf"a\.tif.*{reason}"):
            read(path)


def test_a_missing_file_and_a_folder_raise_an_error(tmp_path):
    with pytest.raises(RasterReadError, match="not there"):
        read_window(tmp_path / "none.tif")
    with pytest.raises(RasterReadError, match="folder"):
        read_window(tmp_path)


def test_a_png_with_trailing_bytes_is_read(tmp_path):
    path = tmp_path / "a.png"
    array = numbers((7, 9), "uint8")
    Image.fromarray(array).save(path)
    path.write_bytes(path.read_bytes() + b"appended by a camera")
    np.testing.assert_array_equal(read_window(path)[0], array)


def test_read_info_returns_size_band_names_and_georeference(tmp_path):
    transform = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_600_000.0)
    path = tmp_path / "a.tif"
    write_raster(path, numbers((2, 3, 5)), crs="EPSG:32633", transform=transform, nodata=0, band_names=["B2", "B8"])
    info = read_info(path)
    assert (info.width, info.height, info.count, info.dtype, info.nodata) == (5, 3, 2, "uint16", 0)
    assert (info.transform, info.band_names, info.gsd_m) == (transform, ("B2", "B8"), 10.0)
    assert rasterio.CRS.from_user_input(info.crs).to_epsg() == 32633


def test_the_pixel_size_is_in_metres_for_every_unit_of_the_crs(tmp_path):
    feet = tmp_path / "feet.tif"
    write_raster(feet, numbers((1, 2, 2)), crs="EPSG:2263", transform=(3, 0, 0, 0, -3, 0))
    assert read_info(feet).gsd_m == pytest.approx(3 * 0.3048, rel=1e-4)
    degrees = tmp_path / "degrees.tif"
    write_raster(degrees, numbers((1, 2, 2)), crs="EPSG:4326", transform=(1e-4, 0, 10, 0, -1e-4, 60))
    assert read_info(degrees).pixel_m == pytest.approx((11.13 / 2, 11.13), rel=1e-2)
    photograph = tmp_path / "photograph.tif"
    write_raster(photograph, numbers((1, 2, 2)))
    assert (read_info(photograph).pixel_m, read_info(photograph).transform, read_info(photograph).crs) == (None,) * 3


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_written_rasters_never_have_an_alpha_band(tmp_path, count):
    array = numbers((count, 3, 3), "uint8")
    write_raster(tmp_path / "a.tif", array)
    np.testing.assert_array_equal(read_window(tmp_path / "a.tif"), array)
    with rasterio.open(tmp_path / "a.tif") as source:
        assert ColorInterp.alpha not in source.colorinterp
        assert source.block_shapes[0] == (256, 256)
        assert source.compression.value == "DEFLATE"


def test_a_palette_is_written_and_read(tmp_path):
    write_raster(tmp_path / "a.tif", np.array([[[0, 3]]], np.uint8), palette={0: (1, 2, 3), 3: (9, 8, 7)})
    palette = read_info(tmp_path / "a.tif").palette
    assert (palette[0], palette[3]) == ((1, 2, 3), (9, 8, 7))
    write_raster(tmp_path / "b.tif", np.array([[[0, 3]]], np.uint8))
    assert read_info(tmp_path / "b.tif").palette is None


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path):
    path = tmp_path / "a.tif"
    write_raster(path, np.ones((1, 2, 2), np.uint8))
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"a\.tif cannot be written"):
        write_raster(path, np.ones((1, 2, 2), np.uint8), crs="EPSG:0")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.shared
def test_a_real_sentinel_2_image_is_read(shared_dir):
    folder = shared_dir / "data/sen1floods11"
    info = read_info(folder / "Spain_7370579_S2Hand.tif")
    image, valid = read_image(folder / "Spain_7370579_S2Hand.tif")
    assert (image.shape, image.dtype, info.nodata) == ((13, 512, 512), np.int16, 0)
    assert (info.band_names[:3], info.band_names[8]) == (("B1", "B2", "B3"), "B8A")
    degree = 8.983152841195215e-05 * 111_320
    assert info.pixel_m == pytest.approx((degree * np.cos(np.deg2rad(38.1058)), degree), rel=4e-3)
    np.testing.assert_array_equal(valid, (image != 0).any(0))
    label = read_window(folder / "Spain_7370579_LabelHand.tif")
    assert np.unique(label).tolist() == [-1, 0, 1]


@pytest.mark.shared
def test_a_real_jpeg_equals_pillow_window_by_window(shared_dir):
    path = shared_dir / "data/dubai/Tile 1/images/image_part_001.jpg"
    expected = np.moveaxis(np.asarray(Image.open(path)), -1, 0)
    whole = read_window(path)
    assert np.abs(whole.astype(int) - expected).mean() < 0.5  # the two decoders upsample chroma differently
    np.testing.assert_array_equal(read_window(path, Window(100, 50, 64, 32)), whole[:, 50:82, 100:164])


def test_rasters_without_coordinates_are_read_and_written_without_a_warning(tmp_path, recwarn):
    warnings.simplefilter("always")
    write_raster(tmp_path / "a.tif", numbers((1, 2, 2)))
    read_info(tmp_path / "a.tif")
    read_image(tmp_path / "a.tif")
    assert not recwarn.list


def test_band_descriptions_become_short_names_without_line_breaks(tmp_path):
    path = raster(tmp_path / "described.tif", numbers((4, 5, 6)))
    with rasterio.open(path, "r+") as target:
        target.descriptions = ("near\ninfrared\t(B8)", "x" * 1000, "Grün 東", "\n")

    assert read_info(path).band_names == ("near infrared (B8)", "x" * 200, "Grün 東", "band_4")
