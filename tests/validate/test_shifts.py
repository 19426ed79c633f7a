"""Images with an offset, unit or product different from the others."""

import numpy as np
import pytest
import rasterio
from dataset_faults import check, finding_of, problems, rewrite
from dataset_files import make_mask, read, write
from rasterio import warp

from satseg.data.splits import Random

HALF = ["train/images/1.tif", "train/images/3.tif", "train/images/5.tif", "val/images/7.tif", "test/images/9.tif"]
CHANGES = {
    "higher": (lambda i: i + 1000, "shifted: values about 1000 higher", "Subtract 1000"),
    "ten times": (lambda i: i * 10, "in another unit: values 10", "one unit"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("files", [HALF, HALF[:1]], ids=["half", "one"])
def test_images_with_another_offset_or_unit_are_found(sound, change, files):
    function, words, repair = CHANGES[change]
    for file in files:
        rewrite(file, function)(sound)
    validation = check(sound)
    finding = finding_of(validation, "distribution")
    assert words in finding.message and repair in finding.repair and list(finding.files) == files
    assert problems(validation) == ["distribution"]


def convert_to_floats(root, change, files):
    """Convert all images to float32, and apply a change to some."""
    for path in sorted(root.glob("*/images/*.tif")):
        name = str(path.relative_to(root))
        function = change if name in files else lambda image: image
        rewrite(name, lambda image, function=function: function(image.astype(np.float32)).astype(np.float32))(root)


def test_decibels_among_linear_values_are_reported_with_the_conversion(sound):
    convert_to_floats(sound, lambda image: 10 * np.log10(image / 1e5), HALF)
    finding = finding_of(check(sound), "distribution")
    assert list(finding.files) == HALF and "below 0" in finding.message and "10 ** (dB / 10)" in finding.repair


def test_8_bit_images_among_reflectances_are_reported_as_such(sound):
    convert_to_floats(sound, lambda image: np.rint(image / 9000 * 255), HALF[:1])
    finding = finding_of(check(sound), "distribution")
    assert list(finding.files) == HALF[:1] and "as of 8-bit pictures" in finding.message


def test_two_different_shifts_are_reported_separately_with_the_affected_split(sound):
    for file in ("val/images/6.tif", "val/images/7.tif"):
        rewrite(file, CHANGES["higher"][0])(sound)
    rewrite("train/images/2.tif", CHANGES["ten times"][0])(sound)
    findings = {f.files: f.message for f in check(sound).findings if f.check == "distribution"}
    assert "in another unit: values 9.95" in findings["train/images/2.tif",]
    shifted = findings["val/images/6.tif", "val/images/7.tif"]
    assert "2 images are shifted (the val split): values about 1000 higher" in shifted and len(findings) == 2


@pytest.mark.shared
def test_dates_of_a_time_series_give_no_findings_until_some_are_scaled(shared_dir, tmp_path):
    year = shared_dir / "data/modis_crops/2010_2011"
    dates = np.stack([read(year / f"{band}.tif") for band in ("blue", "red", "nir", "mir")], axis=1)
    for number, date in enumerate(dates):
        write(tmp_path / f"all/images/{number}.tif", date, east=number * 1000)
        write(tmp_path / f"all/masks/{number}.tif", np.minimum(make_mask(0, 40)[None, :27, :37], 1), east=number * 1000)
    two = {"split": Random(), "classes": ["land", "water"]}
    assert "distribution" not in problems(check(tmp_path, **two))
    for number in (3, 11):
        write(tmp_path / f"all/images/{number}.tif", dates[number] * 4, east=number * 1000)
        write(tmp_path / f"all/images/{number + 1}.tif", dates[number + 1] // 40, east=(number + 1) * 1000)
    finding = finding_of(check(tmp_path, **two), "distribution")
    assert set(finding.files) == {"all/images/4.tif", "all/images/12.tif"}


@pytest.mark.parametrize("shift", [0, 1000])
def test_undeclared_borders_do_not_hide_a_shift(sound, shift):
    files = sorted(str(path.relative_to(sound)) for path in sound.glob("*/images/*.tif"))

    def changed(by):
        return lambda image: np.where(np.arange(image.shape[2]) < 30, 0, image + by).astype(image.dtype)

    for file in files:
        rewrite(file, changed(shift if file in HALF else 0))(sound)
    findings = [f for f in check(sound).findings if f.check == "distribution"]
    assert [list(f.files) for f in findings] == ([HALF] if shift else [])


def test_differing_scale_and_offset_tags_are_reported(sound):
    with rasterio.open(sound / "train/images/2.tif", "r+") as file:
        file.scales, file.offsets = (1e-4,) * 4, (-0.1,) * 4
    validation = check(sound)
    assert problems(validation) == ["scale_tags"]
    finding = finding_of(validation, "scale_tags")
    assert "scale 0.0001 and offset -0.1, where most images have scale 1 and offset 0" in finding.message
    assert list(finding.files) == ["train/images/2.tif"]


def test_differing_band_names_and_nodata_give_notes(sound):
    with rasterio.open(sound / "train/images/2.tif", "r+") as file:
        file.descriptions, file.nodata = ("a", "b", "c", "d"), 9
    validation = check(sound)
    assert validation.is_sound
    for name, words in (("band_names", "band_4 in 9 images, a, b, c, d in 1"), ("nodata", "none in 9 images, 9 in 1")):
        assert words in finding_of(validation, name).message
        assert list(finding_of(validation, name).files) == ["train/images/2.tif"]


@pytest.mark.shared
@pytest.mark.parametrize("shift", [0, 1000])
def test_parts_of_a_real_scene_give_no_findings_until_some_are_shifted(shared_dir, tmp_path, shift):
    with rasterio.open(shared_dir / "data/sen1floods11/Spain_7370579_S2Hand.tif") as file:
        image = file.read([2, 3, 4, 8, 11, 12])
    for number, (row, col) in enumerate(np.ndindex(5, 5)):
        chip = image[:, row * 100 : row * 100 + 100, col * 100 : col * 100 + 100]
        write(tmp_path / f"all/images/{number}.tif", chip + np.int16(shift * (number % 2)), east=number * 1000)
        write(tmp_path / f"all/masks/{number}.tif", make_mask(number, 100)[None], east=number * 1000)
    findings = [f for f in check(tmp_path, split=Random()).findings if f.check == "distribution"]
    assert len(findings) == (1 if shift else 0)
    for finding in findings:
        wrong = {f"all/images/{number}.tif" for number in range(1, 25, 2)}
        assert len(wrong ^ set(finding.files)) <= 1


@pytest.mark.parametrize(("pixel", "reported"), [(10.0, True), (10 / np.cos(np.radians(45.1)), False)])
def test_pixel_sizes_of_different_projections_are_compared_on_the_ground(sound, pixel, reported):
    east, north = warp.transform("EPSG:32633", "EPSG:3857", [500_000], [5_000_000])
    transform = rasterio.Affine(pixel, 0, east[0], 0, -pixel, north[0])
    for name in ("train/images/2.tif", "train/masks/2.tif"):
        write(sound / name, read(sound / name), crs="EPSG:3857", transform=transform)
    assert ("pixel_size" in problems(check(sound))) == reported
