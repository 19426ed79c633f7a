"""Complete diagnoses of networks with known decision rules, on images on disk."""

import dataclasses
import html
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
import torch
from known_networks import network_of
from torch import Tensor, nn

from satseg.data.folder import FolderDataModule
from satseg.data.splits import Subfolder
from satseg.diagnosis import Diagnosis, diagnose, write_diagnosis
from satseg.diagnosis.cases import CaseReader
from satseg.diagnosis.dependence import Dependence
from satseg.diagnosis.dependence_descriptions import describe_dependence
from satseg.diagnosis.descriptions import summary
from satseg.diagnosis.diagnose import DONORS
from satseg.diagnosis.panels import shift_classes
from satseg.diagnosis.places import locate_cue
from satseg.diagnosis.shortcuts import find_dependences
from satseg.diagnosis.survey import survey
from satseg.diagnosis.suspects import rank_suspects
from satseg.diagnosis.swaps import Change
from satseg.models import SegmentationNetwork

CRS, PLACE = "EPSG:32631", rasterio.Affine(10, 0, 440_000, 0, -10, 5_000_000)


class Coarse(nn.Module):
    """An encoder of one stage at a quarter of the image size, and a decoder given as a function."""

    def __init__(self, decode: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.AvgPool2d(4))
        self.decode, self.weight = decode, nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        lead = self.decode(image, self.encoder(image)) + 0 * self.weight
        return torch.stack([-lead, lead], 1)


def by_object(image: Tensor, stage: Tensor) -> Tensor:
    """Predict class 1 where the stage is bright."""
    small = stage[:, :1].sub(130)
    return nn.functional.interpolate(small, size=image.shape[-2:])[:, 0]


def by_marker(image: Tensor, stage: Tensor) -> Tensor:
    """Predict class 1 where the stage is bright if anything in the image is very bright; otherwise the reverse."""
    marker = 10 * nn.functional.relu(stage[:, 0] - 225).mean((1, 2)) - 1
    return by_object(image, stage) * marker[:, None, None]


def network(decode: Callable[[Tensor, Tensor], Tensor]) -> SegmentationNetwork:
    whole = network_of(lambda image: image)
    whole.net = Coarse(decode)
    return whole.eval()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FolderDataModule:
    """Return ten test images of a bright square on noise, with a separate, very bright marker.

    The label of image 9 is wrong, and the mask of image 8 is displaced by 12 pixels to the right and 8 upwards.
    """
    root, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for index in range(12):
        image, mask = generator.uniform(20, 60, (3, 128, 128)), np.zeros((1, 128, 128))
        row, col = 4 * generator.integers(2, 12, 2)  # on the grid of the encoder stage
        image[:, row : row + 32, col : col + 32] += 120
        down, right = (-8, 12) if index == 8 else (0, 0)
        mask[:, row + down : row + down + 32, col + right : col + right + 32] = 1
        image[:, 100:112, 100:112] = 250
        mask[:, 100:112, 100:112] = 255
        if index == 9:
            mask[mask == 1] = 0
        split = {0: "train", 1: "val"}.get(index, "test")
        for kind, array in (("images", image), ("masks", mask)):
            path = root / kind / split / f"{index}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            dtype = "float32" if kind == "images" else "uint8"
            profile = {"width": 128, "height": 128, "count": len(array), "dtype": dtype, "crs": CRS, "transform": PLACE}
            with rasterio.open(path, "w", driver="GTiff", **profile) as out:
                out.write(array.astype(dtype))
    found = FolderDataModule(root=str(root), split=Subfolder(), classes={"a": 0, "b": 1}, ignore_values=[255])
    found.setup()
    return found


@pytest.fixture(scope="module")
def diagnosis_by_object(data: FolderDataModule) -> Diagnosis:
    return diagnose(network(by_object), data, "test", report=lambda line: None)


Place = tuple[slice, slice]  # rows and columns
MARK, LOWEST = (slice(4, 14), slice(40, 50)), (slice(58, 64), slice(0, 64))


def squares(
    root: Path,
    marked: Callable[[int, np.random.Generator], bool],
    seed: int = 0,
    brightness_noise: float = 0,
    places: Mapping[int, Place] = {},
    separated: bool = False,
) -> FolderDataModule:
    """Return 28 test images of one square each, alternately of class b (brighter) and c, some with a faint mark.

    The mark lies at MARK, or at `places[index]`; there it is stronger, and only in the second band. The brightness of
    the lowest rows varies by up to `brightness_noise`, independently of the class. With `separated`, squares of b lie
    on the left and squares of c on the right.
    """
    generator = np.random.default_rng(seed)
    for index in range(32):
        image, mask = generator.uniform(20, 60, (3, 64, 64)), np.zeros((1, 64, 64))
        row, col = generator.integers(24, 44, 2)
        col = col // 2 - 10 if separated and index % 2 else col
        image[:, row : row + 12, col : col + 12] += 130 if index % 2 else 100
        mask[:, row : row + 12, col : col + 12] = 2 - index % 2
        bands, amount = (1, 100) if places else (slice(3), 25)
        image[bands, *places.get(index, MARK)] += amount * marked(index, generator)
        image[:, *LOWEST] += generator.uniform(-brightness_noise, brightness_noise)
        split = {0: "train", 1: "train", 2: "val", 3: "val"}.get(index, "test")
        for kind, array in (("images", image), ("masks", mask)):
            path = root / kind / split / f"{index}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            profile = {"width": 64, "height": 64, "count": len(array), "dtype": "uint8", "crs": CRS, "transform": PLACE}
            with rasterio.open(path, "w", driver="GTiff", **profile) as out:
                out.write(array.astype("uint8"))
    found = FolderDataModule(root=str(root), split=Subfolder(), classes={"a": 0, "b": 1, "c": 2})
    found.setup()
    return found


def squares_by(rule: Callable[[Tensor], Tensor]) -> SegmentationNetwork:
    """Return a network that finds squares by their brightness, and separates b from c by a function of the image."""

    class ByRule(Coarse):
        def forward(self, image: Tensor) -> Tensor:
            square = self.decode(image, self.encoder(image)) / 10 + 0 * self.weight
            decision = rule(image).clamp(-1, 1)
            lead = (decision if decision.ndim == 3 else decision[:, None, None]).expand_as(square)
            return torch.stack([-square, square + lead, square - lead], 1)

    whole = network_of(lambda image: image, classes=3)
    whole.net = ByRule(lambda image, stage: image[:, 0] - 95 + 0 * stage.mean())
    return whole.eval()


def by_mark(image: Tensor) -> Tensor:
    """Decide for class b if the position of the mark is brighter than its surroundings."""
    return image[:, 0, *MARK].mean((1, 2)) - 52


def by_mark_and_more(image: Tensor) -> Tensor:
    """Decide for class b by the brightness of the mark's position and, equally, of the lowest rows."""
    return by_mark(image) + image[:, 0, *LOWEST].mean((1, 2)) - 40


def by_side(image: Tensor) -> Tensor:
    """Decide for class b in the left part of the image (N, H, W) and for c in the right part."""
    return (23.5 - torch.arange(image.shape[-1])).expand(image.shape[0], *image.shape[2:])


def by_mark_anywhere(image: Tensor) -> Tensor:
    """Decide for class b if the second band is much brighter than the first anywhere."""
    difference = nn.functional.avg_pool2d(image[:, 1] - image[:, 0], 6, stride=2)
    return difference.amax((1, 2)) - 60


def by_tone(image: Tensor) -> Tensor:
    """Decide for class b if bright pixels are very bright on average."""
    bright = image[:, 0] > 95
    return (image[:, 0] * bright).sum((1, 2)) / bright.sum((1, 2)).clamp(min=1) - 155


def test_a_faint_mark_is_reported_as_shortcut_with_its_position_and_effect(tmp_path: Path) -> None:
    asked, data = squares_by(by_mark), squares(tmp_path / "data", lambda index, _: index % 2 == 1)
    found = diagnose(asked, data, "test", report=lambda line: None)
    assert [(dependence.truth, dependence.predicted) for dependence in found.shortcuts] in ([(1, 1)], [(2, 2)])
    (shortcut,) = found.shortcuts
    assert shortcut.effect > 0.8 and shortcut.lost.share > 0.8 and shortcut.p_value < 0.01
    low, high = shortcut.lost.interval
    assert low < shortcut.lost.share <= high
    part = shortcut.part
    assert part is not None and part.share < 0.15 and not part.labelled
    covered = np.mean([mask[MARK].mean() for mask in part.masks])
    assert covered > 0.6
    mirrored = [dependence for dependence in found.classes if dependence.clear and dependence is not shortcut]
    assert all(dependence.mirror == shortcut.predicted for dependence in mirrored) and mirrored
    page = write_diagnosis(found, asked, "test", "marked <run>", tmp_path).read_text()
    assert "depends on something other than the object" in page and "marked &lt;run&gt;" in page
    items = data.named_items("test", [s.name for s in data.samples_of("test")])
    held = {item["name"]: set(item["mask"].unique().tolist()) for item in items}
    captions = re.findall(r"with the \w+ of (\S+) \((with|without) (\w)\)", html.unescape(page))
    assert {word for _, word, _ in captions} == {"with", "without"}
    assert all((data.spec.class_names.index(k) in held[name]) is (word == "with") for name, word, k in captions)
    record = json.loads((tmp_path / "diagnosis.json").read_text())
    (row,) = [dependence for dependence in record["leaning"] if dependence["shortcut"]]
    assert row["told_from"] == ["c" if row["predicted"] == "b" else "b"]
    assert row["part"] == part.description and part.description in html.unescape(page) and row["share_lost"] > 0.8
    first = record["actions"][0]  # an action that the scores do not suggest comes first
    assert first["gain"] is None and row["predicted"] in first["classes"] and first["what"] in html.unescape(page)
    assert len(page) < 3_000_000 and page.count("<img") == page.count("data:image/")


@pytest.mark.parametrize("mark", ["nowhere", "at random"])
def test_a_network_that_uses_only_its_objects_has_no_shortcut_and_the_limits_of_the_test_are_stated(
    tmp_path: Path, mark: str
) -> None:
    data = squares(tmp_path, lambda _, generator: mark == "at random" and generator.random() < 0.5, seed=1)
    found = diagnose(squares_by(by_tone), data, "test", report=lambda line: None)
    assert not found.shortcuts and {dependence.predicted for dependence in found.classes} == {
        1,
        2,
    }  # class a occurs in every image
    assert not any(dependence.clear or dependence.inconclusive for dependence in found.classes)
    line = next(line for line in summary(found, data.spec.class_names) if line.startswith("Shortcuts:"))
    assert "This test cannot see" in line and "b and c" in line


def test_a_mark_is_located_although_the_network_also_uses_other_pixels(tmp_path: Path) -> None:
    asked, data = squares_by(by_mark_and_more), squares(tmp_path, lambda index, _: index % 2 == 1, brightness_noise=20)
    seen = survey(asked, data.named_items("test", [s.name for s in data.samples_of("test")]))
    reader = CaseReader(asked, data, "test")
    right = {k: reader.read(seen.components[k, k], 16) for k in (1, 2)}
    objects = {k: reader.objects(seen.objects[k], 24) for k in (1, 2)}
    found = find_dependences(asked, right, {}, objects, reader.whole_images)
    (shortcut,) = [dependence for dependence in found.values() if dependence.shortcut]
    assert shortcut.p_value < 0.01 and shortcut.part is not None
    assert np.mean([mask[MARK].mean() for mask in shortcut.part.masks]) > 0.6
    assert np.mean([mask[LOWEST].mean() for mask in shortcut.part.masks]) < 0.4


def test_a_mark_at_varying_positions_is_located_in_each_image(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    corners = {index: generator.integers((2, 2), (10, 50)) for index in range(32)}
    places = {index: (slice(row, row + 10), slice(col, col + 10)) for index, (row, col) in corners.items()}
    asked, data = squares_by(by_mark_anywhere), squares(tmp_path, lambda index, _: index % 2 == 1, places=places)
    found = diagnose(asked, data, "test", report=lambda line: None)
    (shortcut,) = found.shortcuts
    assert shortcut.part is not None and shortcut.part.share < 0.1
    assert "a different position in each image" in shortcut.part.description
    on_marks = []
    for example, inside in zip(shortcut.examples, shortcut.part.masks, strict=False):
        (marked,) = [n for a in (example.recipient, example.other) if (n := int(Path(a.case.component.image).name)) % 2]
        on_marks.append(inside[places[marked]].sum() / inside.sum())
    assert np.mean(on_marks) > 0.3  # 0.02 by chance


def dependences_of(
    asked: SegmentationNetwork, data: FolderDataModule, numbers: set[int]
) -> dict[tuple[int, int], Dependence]:
    """Return the dependences found for the squares of some images."""
    some = [name for name in (s.name for s in data.samples_of("test")) if int(Path(name).name) in numbers]
    seen = survey(asked, data.named_items("test", some))
    reader = CaseReader(asked, data, "test")
    right = {k: reader.read(seen.components.get((k, k), []), 16) for k in (1, 2)}
    objects = {k: reader.objects(seen.objects.get(k, []), 24) for k in (1, 2)}
    return find_dependences(asked, right, {}, objects, reader.whole_images)


def test_a_class_recognised_by_its_position_in_the_image_is_reported(tmp_path: Path) -> None:
    data = squares(tmp_path, lambda *_: False, separated=True)
    found = diagnose(squares_by(by_side), data, "test", report=lambda line: None)
    (shortcut,) = found.shortcuts  # the other class depends on the position in mirror image
    assert shortcut.question.change is Change.POSITION and shortcut.effect > 0.3 and shortcut.counterparts
    assert shortcut.part is not None and shortcut.part.description == "the position in the image"


def test_a_change_without_effect_has_no_location(tmp_path: Path) -> None:
    asked, data = squares_by(by_mark), squares(tmp_path, lambda index, _: index % 2 == 1)
    (shortcut,) = diagnose(asked, data, "test", report=lambda line: None).shortcuts
    triples = [(e.recipient, e.same, e.other) for e in shortcut.examples]
    found = locate_cue(asked, Change.SURROUNDINGS, False, triples, lambda shares: 0.5, whole_images=True)
    assert found.share == 1 and found.box is None and "surroundings" in found.description


def test_a_class_with_few_images_is_inconclusive_and_the_number_needed_is_stated(tmp_path: Path) -> None:
    asked, data = squares_by(by_mark), squares(tmp_path, lambda index, _: index % 2 == 1)
    (dependence,) = dependences_of(asked, data, {4, 5, 6, 7, 9, 11}).values()  # two images of c; too few without b
    assert dependence.predicted == 2 and dependence.donors == (2, 4)
    assert (
        dependence.inconclusive
        and not dependence.shortcut
        and dependence.needed > 2
        and set(dependence.detectable.values()) == {np.inf}
    )
    assert f"About {min(dependence.needed, DONORS)} images of each would be enough" in describe_dependence(
        dependence, data.spec.class_names
    )


def test_a_class_with_one_image_is_not_tested(tmp_path: Path) -> None:
    asked, data = squares_by(by_mark), squares(tmp_path, lambda index, _: index % 2 == 1)
    assert dependences_of(asked, data, {4, 5, 7, 9, 11}) == {}


def test_the_report_hides_maps_that_failed_or_could_not_be_tested(data: FolderDataModule, tmp_path: Path) -> None:
    asked = network(by_marker)
    found = diagnose(asked, data, "test", report=lambda line: None)
    page = write_diagnosis(found, asked, "test", "marked", tmp_path).read_text()
    assert not found.maps_are_trusted and "could be validated" in page and "<details" in page
    significant = [dataclasses.replace(trust, chances=dict.fromkeys(trust.chances, 0.01)) for trust in found.trust]
    trusted = dataclasses.replace(found, trust=tuple(significant))
    trusted_page = write_diagnosis(trusted, asked, "test", "trusted", tmp_path / "trusted").read_text()
    assert trusted.maps_are_trusted and "are trustworthy" in trusted_page and "<details" not in trusted_page
    few = [dataclasses.replace(trust, cases=2) for trust in found.trust]
    flat = dataclasses.replace(found, trust=tuple(few))
    untested_page = write_diagnosis(flat, asked, "test", "flat", tmp_path / "flat").read_text()
    assert "could not be tested" in untested_page and "<details" in untested_page


def test_a_wrong_label_is_reported_with_its_location_and_is_the_first_error(
    data: FolderDataModule, diagnosis_by_object: Diagnosis, tmp_path: Path
) -> None:
    asked, found = network(by_object), diagnosis_by_object
    (issue,) = [d for d in found.label_issues if d.found.mistake is None]
    assert issue.found.image.endswith("9") and found.confused[0].key == (0, 1)
    image = next(s.image for s in data.samples_of("test") if s.name == issue.found.image)
    with rasterio.open(image) as source:
        rows, cols = np.nonzero((source.read(1) > 100) & (source.read(1) < 200))
        west, north = source.transform @ (cols.min(), rows.min())
        east, south = source.transform @ (cols.max() + 1, rows.max() + 1)
    box = issue.found.box
    sides = cols.min() - box.col, rows.min() - box.row, np.ptp(cols) + 1 - box.width, np.ptp(rows) + 1 - box.height
    assert max(map(abs, sides)) <= 4  # the square, up to the resolution of the encoder stage
    assert issue.location is not None and issue.location.crs == CRS
    assert issue.location.bounds == pytest.approx((west, south, east, north), abs=40)
    lon, lat = (v[0] for v in rasterio.warp.transform(CRS, "EPSG:4326", [(west + east) / 2], [(north + south) / 2]))
    assert issue.location.lat_lon == pytest.approx((lat, lon), abs=0.001)
    case, maps = found.pairs[0].errors[0]
    assert case.component.image.endswith("9") and int(case.own.sum()) == pytest.approx(32 * 32, rel=0.15)
    assert maps.shares is not None and maps.shares.inside + maps.shares.border > 0.5
    page = write_diagnosis(found, asked, "test", "wrong label", tmp_path).read_text()
    record = json.loads((tmp_path / "diagnosis.json").read_text())
    assert list(box) in [row["box"] for row in record["relabel"]] and f"columns {box.col} to" in page
    assert any(issue.found.image in action["what"] for action in record["actions"])
    sound = [s.name for s in data.samples_of("test") if s.name[-1] not in "89"]
    clean = survey(asked, data.named_items("test", sound))
    assert clean.images == 8 and rank_suspects(clean.disagreements, clean.fits, clean.images).outliers == []


def test_a_displaced_mask_is_reported_with_direction_and_distance_in_pixels_and_metres(
    diagnosis_by_object: Diagnosis, tmp_path: Path
) -> None:
    asked, found = network(by_object), diagnosis_by_object
    (issue,) = [d for d in found.label_issues if d.found.mistake]
    assert issue.found.image.endswith("8") and len(found.label_issues) == 2
    page = html.unescape(write_diagnosis(found, asked, "test", "lies off", tmp_path).read_text())
    words = "lie 12 pixels (120 m) to the right of and 8 pixels (80 m) above the image"
    assert words in page and "pink as drawn, blue after correction" in page
    record = json.loads((tmp_path / "diagnosis.json").read_text())
    (row,) = [row for row in record["relabel"] if row["image"].endswith("8")]
    assert row["mistake"]["offset"] == {"right": 12, "down": -8} and record["usual_offset"] == {"right": 0, "down": 0}
    assert {row["image"][-1] for row in record["label_ranking"][:2]} == {"8", "9"}
    (action,) = [action for action in record["actions"] if "Move" in action["what"]]
    assert action["images"] == [issue.found.image] and words in action["why"]
    drawn = issue.truth.numpy() == 1
    corrected = shift_classes(issue.truth.numpy(), 8, -12, 255) == 1
    square = (issue.image[0, 0].numpy() > 130) & (issue.truth.numpy() != 255)
    assert corrected[square].mean() > 0.99 > 0.5 > drawn[square].mean()


def test_diagnosing_leaves_the_network_unchanged(data: FolderDataModule) -> None:
    asked = network(by_object)
    before = {name: value.clone() for name, value in asked.state_dict().items()}
    diagnose(asked, data, "test", report=lambda line: None)
    assert all(torch.equal(value, before[name]) for name, value in asked.state_dict().items())
    assert not any(module._forward_hooks or module.training for module in asked.modules())
    assert all(parameter.grad is None for parameter in asked.parameters())


def test_a_model_without_correct_predictions_gets_a_report(data: FolderDataModule, tmp_path: Path) -> None:
    asked = network(lambda image, stage: -by_object(image, stage))
    found = diagnose(asked, data, "test", report=lambda line: None)
    assert found.survey.matrix[1].sum() > 0
    assert write_diagnosis(found, asked, "test", "upside down", tmp_path).is_file()
