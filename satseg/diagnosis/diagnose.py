"""Diagnosis of a model on a split, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from satseg.attribution.bands import BandImportance, band_importance
from satseg.data import SegmentationDataModule
from satseg.diagnosis.cases import Case, CaseReader
from satseg.diagnosis.confusion import Confused, confused_pairs, top_pairs
from satseg.diagnosis.dependence import Dependence
from satseg.diagnosis.evidence import Maps, explain_error
from satseg.diagnosis.label_issues import LabelIssue, locate_issues
from satseg.diagnosis.shortcuts import find_dependences
from satseg.diagnosis.survey import Survey, survey
from satseg.diagnosis.suspects import Suspects, rank_suspects
from satseg.diagnosis.trust import Trust, default_kinds, evaluate_maps, informative_cases
from satseg.models import SegmentationNetwork

PAIRS = 4  # confused pairs to examine by pixels, and as many by share of the true class
ERRORS = 3  # cases of each pair
REGIONS = 16  # cases of each class, to test for shortcuts
DONORS = 24  # most images of each class whose surroundings are swapped in
ALL_DONORS, FEWEST = 96, 8  # donors of all classes together, which bounds the time; and fewest of each class
DONOR_PIXELS = 2_000_000  # of all donors together: fewer where parts are large
CLASSES = 12  # the most frequent ones are tested
MAPPED = 2  # errors of each pair whose evidence is computed
TRUST_CASES = 8  # on which maps are tested
PARTS = 16  # of images, to measure band importance


@dataclass(frozen=True)
class Pair:
    """A true class that is taken for another.

    Attributes:
        confused: The classes, and how much is confused.
        images: Those with the most such pixels, most first.
        errors: Cases with their maps.
        dependence: What the errors depend on; None if no case could be tested.
    """

    confused: Confused
    images: tuple[str, ...]
    errors: tuple[tuple[Case, Maps], ...]
    dependence: Dependence | None


@dataclass(frozen=True)
class Diagnosis:
    """Findings on a split.

    Attributes:
        survey: Confusion, and how far the images' labels are contradicted.
        confused: All confused pairs, most pixels first.
        suspects: Images ranked by how likely their labels are wrong.
        label_issues: Those that stand out, with their surroundings.
        trust: Test results of the maps in use first, then of the quick ones; empty if no region is right.
        pairs: The examined ones, most pixels first.
        classes: What correct predictions depend on, class by class.
        bands: Most important first; empty if the split is one small image or nothing is labelled.
    """

    survey: Survey
    confused: tuple[Confused, ...]
    suspects: Suspects
    label_issues: tuple[LabelIssue, ...]
    trust: tuple[Trust, ...]
    pairs: tuple[Pair, ...]
    classes: tuple[Dependence, ...]
    bands: tuple[BandImportance, ...]

    @property
    def maps_are_trusted(self) -> bool:
        """True if the maps of errors passed the tests."""
        return bool(self.trust) and self.trust[0].passes

    @property
    def shortcuts(self) -> list[Dependence]:
        """Clear dependences on spurious cues, classes first."""
        return [dependence for dependence in self._dependences if dependence.shortcut]

    @property
    def surroundings(self) -> list[Dependence]:
        """Clear dependences on content that is labelled differently, which may be legitimate context."""
        return [
            dependence
            for dependence in self._dependences
            if dependence.clear and dependence.labelled_context and dependence.mirror is None
        ]

    @property
    def _dependences(self) -> list[Dependence]:
        return [*self.classes, *(pair.dependence for pair in self.pairs if pair.dependence)]


def diagnose(
    network: SegmentationNetwork, datamodule: SegmentationDataModule, split: str, report: Callable[[str], None] = print
) -> Diagnosis:
    """Diagnose a model's errors on a split.

    Args:
        network: In evaluation mode; left as it was.
        datamodule: Set up.
        split: `train`, `val` or `test`.
        report: Called with one line of text at each step.

    Raises:
        ResourceError: If memory runs out.
    """
    names = [sample.name for sample in datamodule.samples_of(split)]
    report(f"Segmenting {len(names)} images …")
    seen = survey(network, datamodule.named_items(split, names))
    reader = CaseReader(network, datamodule, split)
    frequent = [int(k) for k in seen.matrix.sum(1).argsort()[::-1][:CLASSES]]
    right = {k: reader.read(seen.components.get((k, k), []), REGIONS) for k in frequent}
    confused = confused_pairs(seen.matrix)
    selected_pairs = top_pairs(confused, PAIRS)
    wrong = {pair.key: reader.read(seen.components.get(pair.key, []), ERRORS) for pair in selected_pairs}
    report("Testing the evidence maps …")
    tested = informative_cases(network, _in_turn(list(right.values())), TRUST_CASES)
    trust = tuple(evaluate_maps(network, tested, default_kinds(network, tested[0]))) if tested else ()
    report("Swapping the surroundings of objects …")
    number = _donors_of_each(len(frequent), reader.side)
    objects = {k: reader.objects(seen.objects.get(k, []), number) for k in frequent}
    dependence = find_dependences(network, right, wrong, objects, reader.whole_images)
    pairs = [
        Pair(
            pair,
            tuple(name for name, _ in seen.worst[pair.key]),
            tuple((case, explain_error(network, case)) for case in wrong[pair.key][:MAPPED]),
            dependence.get(pair.key),
        )
        for pair in selected_pairs
    ]
    report("Perturbing bands …")
    bands = _bands(network, reader)
    classes = [found for k in right if (found := dependence.get((k, k))) is not None]
    suspects = rank_suspects(seen.disagreements, seen.fits, seen.images)
    label_issues = locate_issues(suspects.outliers, reader, datamodule)
    return Diagnosis(seen, tuple(confused), suspects, label_issues, trust, tuple(pairs), tuple(classes), tuple(bands))


def _donors_of_each(classes: int, side: int) -> int:
    """Return the number of donors per class that the time budget allows for parts of this size."""
    affordable = min(ALL_DONORS, DONOR_PIXELS // side**2)
    return max(FEWEST, min(DONORS, affordable // max(1, classes)))


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
