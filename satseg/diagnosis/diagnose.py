"""The parts of a diagnosis, in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from satseg.attribution.bands import BandImportance, band_importance
from satseg.data import SegmentationDataModule
from satseg.diagnosis.cases import Case, CaseReader
from satseg.diagnosis.confusion import Confused, confused_pairs, foremost
from satseg.diagnosis.doubts import Doubt, look_at
from satseg.diagnosis.evidence import Maps, explain_error
from satseg.diagnosis.leaning import Leaning
from satseg.diagnosis.shortcuts import find_leanings
from satseg.diagnosis.survey import Survey, survey
from satseg.diagnosis.suspects import Suspects, rank
from satseg.diagnosis.trust import Trust, judge, telling, usual_ways
from satseg.models import SegmentationNetwork

PAIRS = 4  # of confused classes that are looked into: so many by pixels, and so many by share of the true class
ERRORS = 3  # of each
REGIONS = 16  # of each class, for the question what it leans on
DONORS = 24  # images of each class, whose surroundings are given to these, at most
ALL_DONORS, FEWEST = 96, 8  # of all classes together, about, as time grows with their number; but so many of each
DONOR_PIXELS = 2_000_000  # of them all, about: fewer where parts are large
CLASSES = 12  # the most frequent ones, for the same
MAPPED = 2  # errors of each whose evidence is looked at
JUDGED = 8  # cases on which maps are tested
PARTS = 16  # of images, for the importance of bands


@dataclass(frozen=True)
class Pair:
    """A true class that is taken for another.

    Attributes:
        confused: What is taken for what, and how much of it.
        images: Those with the most such pixels, most first.
        errors: Case, and its maps.
        leaning: What the errors lean on; None where no case could be tested.
    """

    confused: Confused
    images: tuple[str, ...]
    errors: tuple[tuple[Case, Maps], ...]
    leaning: Leaning | None


@dataclass(frozen=True)
class Diagnosis:
    """What was found on a split.

    Attributes:
        survey: Confusion, and how much images' labels are contradicted.
        confused: All confused pairs, by pixels.
        suspects: Images in the order in which their labels deserve another look.
        doubts: Those that stand out, with their surroundings.
        trust: Of the maps that are read, first, and of those that are quick; empty where no region is right.
        pairs: Those that are looked into, by pixels.
        classes: What right predictions lean on, class by class.
        bands: The most important first; empty where the split is one small image, or nothing is labelled.
    """

    survey: Survey
    confused: tuple[Confused, ...]
    suspects: Suspects
    doubts: tuple[Doubt, ...]
    trust: tuple[Trust, ...]
    pairs: tuple[Pair, ...]
    classes: tuple[Leaning, ...]
    bands: tuple[BandImportance, ...]

    @property
    def maps_are_read(self) -> bool:
        """Whether the maps of errors passed the tests."""
        return bool(self.trust) and self.trust[0].passes

    @property
    def shortcuts(self) -> list[Leaning]:
        """What is leaned on clearly more than chance allows, classes first."""
        return [leaning for leaning in self._leanings if leaning.shortcut]

    @property
    def surroundings(self) -> list[Leaning]:
        """What is leaned on as clearly, but goes with the class by its labels."""
        return [leaning for leaning in self._leanings if leaning.clear and leaning.nearby and leaning.mirror is None]

    @property
    def _leanings(self) -> list[Leaning]:
        return [*self.classes, *(pair.leaning for pair in self.pairs if pair.leaning)]


def diagnose(
    network: SegmentationNetwork, datamodule: SegmentationDataModule, split: str, tell: Callable[[str], None] = print
) -> Diagnosis:
    """Find out why a model is wrong on a split.

    Args:
        network: In evaluation mode; left as it was.
        datamodule: Set up.
        split: `train`, `val` or `test`.
        tell: Takes a line on what is being done.

    Raises:
        ResourceError: If memory runs out.
    """
    names = [sample.name for sample in datamodule.samples_of(split)]
    tell(f"Segmenting {len(names)} images …")
    seen = survey(network, datamodule.named_items(split, names))
    reader = CaseReader(network, datamodule, split)
    frequent = [int(k) for k in seen.matrix.sum(1).argsort()[::-1][:CLASSES]]
    right = {k: reader.read(seen.spots.get((k, k), []), REGIONS) for k in frequent}
    confused = confused_pairs(seen.matrix)
    foremost_pairs = foremost(confused, PAIRS)
    wrong = {pair.key: reader.read(seen.spots.get(pair.key, []), ERRORS) for pair in foremost_pairs}
    tell("Testing how far maps of evidence can be trusted …")
    judged = telling(network, _in_turn(list(right.values())), JUDGED)
    trust = tuple(judge(network, judged, usual_ways(network, judged[0]))) if judged else ()
    tell("Giving objects the surroundings of other images …")
    number = _donors_of_each(len(frequent), reader.side)
    objects = {k: reader.objects(seen.objects.get(k, []), number) for k in frequent}
    leaning = find_leanings(network, right, wrong, objects, reader.whole)
    pairs = [
        Pair(
            pair,
            tuple(name for name, _ in seen.worst[pair.key]),
            tuple((case, explain_error(network, case)) for case in wrong[pair.key][:MAPPED]),
            leaning.get(pair.key),
        )
        for pair in foremost_pairs
    ]
    tell("Spoiling bands …")
    bands = _bands(network, reader)
    classes = [found for k in right if (found := leaning.get((k, k))) is not None]
    suspects = rank(seen.disagreements, seen.fits, seen.images)
    doubts = look_at(suspects.standing_out, reader, datamodule)
    return Diagnosis(seen, tuple(confused), suspects, doubts, trust, tuple(pairs), tuple(classes), tuple(bands))


def _donors_of_each(classes: int, side: int) -> int:
    """Return how many donors of a class there is time for, in parts of a size."""
    together = min(ALL_DONORS, DONOR_PIXELS // side**2)
    return max(FEWEST, min(DONORS, together // max(1, classes)))


def _bands(network: SegmentationNetwork, reader: CaseReader) -> list[BandImportance]:
    parts = list(reader.spread(PARTS))
    if not parts:
        return []
    names, images, valid, truth = zip(*parts, strict=True)
    return band_importance(network, torch.stack(images), torch.stack(valid), torch.stack(truth), names)


def _in_turn(groups: Sequence[Sequence[Case]]) -> list[Case]:
    """Return the first of each group, then the second of each, and so on."""
    rounds = itertools.zip_longest(*groups)
    return [case for turn in rounds for case in turn if case is not None]
