"""Descriptions of served models: input, training data, scores and reliability of explanations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from satseg.attribution import METHODS
from satseg.errors import RecordError, RunError
from satseg.models.checkpoint import read_document
from satseg.runs import model_path, read_summary, run_folder
from satseg.runs.documents import MAX_LISTING_BYTES, read_fields
from satseg.serve.served_models import ServedModel
from satseg.spec import DatasetSpec

UNTESTED = "could not be tested"  # by the diagnosis
DIAGNOSED = ("test", "val", "train")  # the first split on which such maps were tested is reported
BEST_SPLITS = ("test", "val")  # the first that was scored is reported


@dataclass(frozen=True)
class Description:
    """Description of a model.

    Attributes:
        name: Name shown in menus.
        architecture: Decoder and backbone.
        parameters: Number of parameters.
        digest: SHA-256 of the model file.
        spec: Bands and classes.
        data: A sentence about the training data; empty if there is no run folder.
        split: The split that was scored, if any.
        scores: Scores by name; None if a class was absent.
        protocol: Definition of each score, by name.
    """

    name: str
    architecture: str
    parameters: int
    digest: str
    spec: DatasetSpec
    data: str
    split: str | None
    scores: Mapping[str, float | None]
    protocol: Mapping[str, str]


def describe(served: ServedModel) -> Description:
    """Return the description of a served model."""
    path = model_path(served.models.checkpoints[0])
    summary, data = _record(served)
    split = next((split for split in BEST_SPLITS if split in summary.get("scores", {})), None)
    config = served.network.config
    decoder, backbone = str(config.get("_target_", "")).rpartition(".")[2], str(config.get("encoder_name", ""))
    return Description(
        name=served.name,
        architecture=f"{decoder} on {backbone.removeprefix('tu-')}",
        parameters=sum(p.numel() for p in served.network.parameters()),
        digest=served.models.digests[0],
        spec=served.spec,
        data=data,
        split=split,
        scores=summary["scores"][split] if split else {},
        protocol=read_document(path).metric_protocol,
    )


@dataclass(frozen=True)
class Trust:
    """Trustworthiness of a model's evidence maps.

    Attributes:
        verdict: `passed`, `failed` or `untested`.
        text: The verdict in words.
    """

    verdict: str
    text: str


def trust_in(served: ServedModel, method: str, layer: str) -> Trust:
    """Return whether maps of a method at a layer passed the trust tests of the run's diagnosis."""
    tested = list(_diagnosed(served))
    rows = ((split, row) for split, row in tested if (row.get("method"), row.get("layer")) == (method, layer))
    split, row = next(rows, (None, {}))
    maps = f"on images of the {split} split, maps of {method} at {layer}"
    if row.get("passes") is True:
        text = f"Passed the tests of trust: {maps} mark what drives the prediction, and depend on what was learned."
        return Trust("passed", text)
    better = next(
        (row["method"] for _, row in tested if row.get("passes") is True and row.get("method") in METHODS), ""
    )
    remedy = f" Choose {better}, whose maps passed." if better else ""
    if split is not None and row.get("verdict") != UNTESTED:
        text = f"Failed the tests of trust: {maps} do not mark what drives the prediction. Do not rely on this one."
        return Trust("failed", text + remedy)
    if split is not None:
        text = f"Could not be tested: {maps} were tried, but no replacement changed the prediction enough."
        return Trust("untested", text + remedy)
    remedy = remedy or " The diagnosis (satseg.explain report=true) tests maps of occlusion, and gradcam at layer auto."
    return Trust("untested", f"Not tested: it is unknown whether maps of {method} at {layer} can be trusted.{remedy}")


def _diagnosed(served: ServedModel) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each split with the diagnosis result of each kind of map, if there is a diagnosis."""
    for split in DIAGNOSED:
        try:
            folder = run_folder(served.models.checkpoints[0]) / "diagnosis" / split
            trust = read_fields(folder / "diagnosis.json", {"trust": dict}, MAX_LISTING_BYTES)["trust"]
        except (RunError, RecordError, OSError):
            continue
        maps = trust.get("maps")
        yield from ((split, row) for row in (maps if isinstance(maps, list) else []) if isinstance(row, dict))


def _record(served: ServedModel) -> tuple[Mapping[str, Any], str]:
    """Return the summary of the model's run, and a sentence about its data; both empty without a run folder."""
    try:
        folder = run_folder(served.models.checkpoints[0])
        summary, data = read_summary(folder), read_fields(folder / "data.json", {"splits": dict}, MAX_LISTING_BYTES)
        counts = {split: len(names) for split, names in data["splits"].items()}
        train, val, test = (counts[split] for split in ("train", "val", "test"))
        sentence = f"Trained on {train:,} images, validated on {val:,} and tested on {test:,}."
    except (RunError, OSError, KeyError, TypeError):
        return {}, ""
    return summary, sentence
