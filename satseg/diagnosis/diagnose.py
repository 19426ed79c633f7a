"""The parts of a diagnosis, in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from satseg.attribution import Layer, layers_of
from satseg.attribution.bands import BandImportance, band_importance
from satseg.data import SegmentationDataModule
from satseg.diagnosis.cases import Case, CaseReader
from satseg.diagnosis.evidence import Maps, explain_error
from satseg.diagnosis.leaning import Leaning, find_leaning
from satseg.diagnosis.survey import Survey, survey
from satseg.diagnosis.trust import LayerTrust, judge_layers
from satseg.models import SegmentationNetwork

PAIRS = 5  # of confused classes that are looked into
ERRORS = 3  # of each
REGIONS = 8  # of each class, for the question what it leans on
CLASSES = 12  # the most frequent ones, for the same
JUDGED = 5  # cases on which layers are tested
PARTS = 16  # of images, for the importance of bands


@dataclass(frozen=True)
class Pair:
    """A true class that is taken for another.

    Attributes:
        truth: Index of the true class.
        predicted: Index of the class it is taken for.
        pixels: How many of the split's.
        errors: Case, and its maps at an encoder and a decoder layer.
        leaning: What the errors lean on; None where no case could be tested.
    """

    truth: int
    predicted: int
    pixels: int
    errors: tuple[tuple[Case, tuple[Maps, ...]], ...]
    leaning: Leaning | None


@dataclass(frozen=True)
class Diagnosis:
    """What was found on a split.

    Attributes:
        survey: Confusion, and images whose labels are in doubt.
        trust: Layers from fine to coarse, the decoder last; empty where the model has no region right.
        pairs: The most confused first.
        classes: What right predictions lean on, class by class.
        bands: The most important first; empty where the split is one small image, or nothing is labelled.
    """

    survey: Survey
    trust: tuple[LayerTrust, ...]
    pairs: tuple[Pair, ...]
    classes: tuple[Leaning, ...]
    bands: tuple[BandImportance, ...]

    @property
    def shortcuts(self) -> list[Leaning]:
        """What is leaned on clearly more than chance allows, classes first."""
        errors = [pair.leaning for pair in self.pairs if pair.leaning]
        return [leaning for leaning in [*self.classes, *errors] if leaning.shortcut]


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
    wrong = {pair: reader.read(seen.spots.get(pair, []), ERRORS) for pair in seen.confused_pairs()[:PAIRS]}
    anything = [case for cases in [*right.values(), *wrong.values()] for case in cases]
    layers = layers_of(network, anything[0].image, anything[0].valid) if anything else []
    tell("Testing how far maps of evidence can be trusted …")
    judged = list(itertools.islice(_in_turn(list(right.values())), JUDGED))
    trust = judge_layers(network, judged, layers) if judged else []
    tell("Replacing what classes might lean on …")
    questions = sum(map(bool, [*right.values(), *wrong.values()]))
    leaning = {
        key: find_leaning(network, cases, layers, questions) if cases else None
        for key, cases in [*right.items(), *wrong.items()]
    }
    shown = _shown(layers, trust)
    pairs = [
        Pair(
            *pair,
            int(seen.matrix[pair]),
            tuple((case, tuple(explain_error(network, case, layer) for layer in shown)) for case in cases),
            leaning[pair],
        )
        for pair, cases in wrong.items()
    ]
    tell("Spoiling bands …")
    parts = [torch.stack(stacked) for stacked in zip(*reader.spread(PARTS), strict=True)]
    bands = band_importance(network, parts[0], parts[1], parts[2]) if parts else []
    classes = [found for k in right if (found := leaning[k]) is not None]
    return Diagnosis(seen, tuple(trust), tuple(pairs), tuple(classes), tuple(bands))


def _in_turn(groups: Sequence[Sequence[Case]]) -> list[Case]:
    """Return the first of each group, then the second of each, and so on."""
    rounds = itertools.zip_longest(*groups)
    return [case for turn in rounds for case in turn if case is not None]


def _shown(layers: Sequence[Layer], trust: Sequence[LayerTrust]) -> list[Layer]:
    """Return the encoder layer that is trusted most, and the last layer: the decoder, where that is a map."""
    inner = list(zip(layers, trust, strict=False))[:-1]
    if not inner:
        return list(layers[-2:])
    best = max(inner, key=lambda pair: (pair[1].passes, pair[1].score - pair[1].random_score))[0]
    return [best, layers[-1]]
