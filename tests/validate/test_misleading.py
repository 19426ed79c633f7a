"""Misleading files: near infrared flagged as alpha, and 255 used both as a class and for ignored pixels."""

from pathlib import Path

import numpy as np
import pytest
from dataset_faults import check, finding_of, problems
from dataset_files import SIZE, make_mask, write

from satseg.data.splits import Random


def four_bands(root: Path, alpha: str, number: int = 10) -> None:
    """Write images of four bands, the last flagged as alpha, and masks of two classes."""
    random = np.random.default_rng(0)
    for i in range(number):
        mask = (make_mask(i) == 1).astype(np.uint8)
        image = random.integers(1, 255, (4, SIZE, SIZE), np.uint8)
        if alpha == "infrared":  # water is black
            image[3] = np.where(mask == 1, 0, image[3])
        elif alpha == "opaque":
            image[3] = 255
            image[3, :20], mask[:20] = 0, 0
        write(root / f"images/{i}.tif", image, east=i * 10 * SIZE, photometric="rgb", alpha="yes")
        write(root / f"masks/{i}.tif", mask[None], east=i * 10 * SIZE)


def check_all(root: Path, **options):
    return check(root, images="images/*", masks="masks/*", classes=None, split=Random(), **options)


def test_near_infrared_flagged_as_alpha_is_reported_with_the_option_that_uses_it(tmp_path):
    four_bands(tmp_path, "infrared")
    validation = check_all(tmp_path)
    assert {"transparency", "hidden_class"} <= set(problems(validation)) and "absent_class" not in problems(validation)
    finding = finding_of(validation, "transparency")
    assert "band 4 of 10 images is flagged as transparency" in finding.message and len(finding.files) == 10
    assert "35 % of their pixels" in finding.message  # the share of class 1 in make_mask
    assert "dataset.bands='[1, 2, 3, 4]'" in finding.repair
    hidden = [f for f in validation.findings if f.check == "hidden_class"]
    assert all("class_1" in f.message and "Split differently" not in f.repair for f in hidden)
    fixed = check_all(tmp_path, bands=[1, 2, 3, 4])
    assert not {"transparency", "hidden_class", "absent_class"} & {f.check for f in fixed.findings}


def test_real_transparency_gives_only_a_note(tmp_path):
    four_bands(tmp_path, "opaque")
    validation = check_all(tmp_path)
    assert problems(validation) == [] and "21 % of their pixels" in finding_of(validation, "transparency").message


def two_codes(root: Path, coded: slice, value: int = 1, share: int = 1) -> None:
    for i in range(10):
        mask = (make_mask(i) == 1).astype(np.uint8)
        write(root / f"images/{i}.tif", np.random.default_rng(i).integers(1, 999, (3, SIZE, SIZE), np.uint16))
        if i in range(10)[coded]:
            mask[:share] = np.where(mask[:share] == value, 255, mask[:share])
        write(root / f"masks/{i}.tif", mask[None])


@pytest.mark.parametrize("classes", [None, {"land": 0, "water": 1}])
def test_masks_with_two_values_for_one_class_give_a_warning(tmp_path, classes):
    two_codes(tmp_path, slice(0, None, 2), share=SIZE)
    finding = finding_of(
        check(tmp_path, images="images/*", masks="masks/*", classes=classes, split=Random()), "two_codes"
    )
    name = "water" if classes else "class_1"
    assert finding.severity > 0 and sorted(Path(f).stem for f in finding.files) == list("02468")
    assert f"{name}: {{value: [1, 255]}}" in finding.repair and f"none of the 5 masks with 1 ({name})" in (
        finding.message
    )


@pytest.mark.parametrize(
    ("coded", "value", "share", "options"),
    [
        (slice(0, None, 2), 1, SIZE // 2, {}),  # in masks that also contain the class
        (slice(0, 1), 1, SIZE, {}),  # in a single mask
        (
            slice(0, None, 2),
            1,
            SIZE,
            {"classes": {"land": 0, "water": 1}, "ignore_values": [255]},
        ),  # declared by the user
        (slice(0, None, 2), 1, SIZE, {"classes": {"land": 0, "water": 1}, "mask_values": {255: "water"}}),
    ],
)
def test_legitimate_uses_of_255_are_not_reported_as_a_second_value(tmp_path, coded, value, share, options):
    two_codes(tmp_path, coded, value, share)
    given = {"images": "images/*", "masks": "masks/*", "classes": None, "split": Random()} | options
    assert "two_codes" not in {f.check for f in check(tmp_path, **given).findings}
