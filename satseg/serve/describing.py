"""What is known of a model: what it takes, what it was trained on, how good it was."""

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
DIAGNOSED = ("test", "val", "train")  # the first split on which such maps were tested is told
BEST_SPLITS = ("test", "val")  # the first that was scored is told


@dataclass(frozen=True)
class Description:
    """A model in words and numbers.

    Attributes:
        name: What a menu calls it.
        architecture: Decoder and backbone.
        parameters: How many.
        digest: SHA-256 of its file.
        spec: Bands and classes.
        data: A sentence on the images that it was trained on; empty where only the file is there.
        split: Whose scores these are, if any.
        scores: By name; None where a class was absent.
        protocol: What each score is, by its name.
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
    """Return what is known of a model."""
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
    """Whether a model's maps of evidence can be trusted.

    Attributes:
        verdict: `passed`, `failed`, or `untested`.
        text: Says so.
    """

    verdict: str
    text: str


def trust_in(served: ServedModel, method: str, layer: str) -> Trust:
    """Return whether maps of a method at a layer passed the tests of trust, as the run's diagnosis tells."""
    tested = list(_diagnosed(served))
    rows = ((split, row) for split, row in tested if (row.get("method"), row.get("layer")) == (method, layer))
    split, row = next(rows, (None, {}))
    said = f"on images of the {split} split, maps of {method} at {layer}"
    if row.get("passes") is True:
        text = f"Passed the tests of trust: {said} mark what moves the prediction, and depend on what was learned."
        return Trust("passed", text)
    better = next(
        (row["method"] for _, row in tested if row.get("passes") is True and row.get("method") in METHODS), ""
    )
    remedy = f" Choose {better}, whose maps passed." if better else ""
    if split is not None and row.get("verdict") != UNTESTED:
        text = f"Failed the tests of trust: {said} do not mark what moves the prediction. Read nothing into this one."
        return Trust("failed", text + remedy)
    if split is not None:
        text = f"Could not be tested: {said} were tried, but nothing that was replaced moved the prediction enough."
        return Trust("untested", text + remedy)
    remedy = remedy or " The diagnosis (satseg.explain report=true) tests maps of occlusion, and gradcam at layer auto."
    return Trust("untested", f"Not tested: whether maps of {method} at {layer} can be trusted is not known.{remedy}")


def _diagnosed(served: ServedModel) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield splits with what the diagnosis found of each kind of maps, if there is one."""
    for split in DIAGNOSED:
        try:
            folder = run_folder(served.models.checkpoints[0]) / "diagnosis" / split
            trust = read_fields(folder / "diagnosis.json", {"trust": dict}, MAX_LISTING_BYTES)["trust"]
        except (RunError, RecordError, OSError):
            continue
        maps = trust.get("maps")
        yield from ((split, row) for row in (maps if isinstance(maps, list) else []) if isinstance(row, dict))


def _record(served: ServedModel) -> tuple[Mapping[str, Any], str]:
    """Return the summary of the model's run, and what its data were; a file alone tells less."""
    try:
        folder = run_folder(served.models.checkpoints[0])
        summary, data = read_summary(folder), read_fields(folder / "data.json", {"splits": dict}, MAX_LISTING_BYTES)
        counts = {split: len(names) for split, names in data["splits"].items()}
        said = f"Trained on {counts['train']:,} images; {counts['val']:,} validated it, {counts['test']:,} tested it."
    except (RunError, OSError, KeyError, TypeError):
        return {}, ""
    return summary, said
