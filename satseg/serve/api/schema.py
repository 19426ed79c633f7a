"""JSON schemas of the API."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, Field

from satseg.serve.describing import describe
from satseg.serve.served_models import ServedModel
from satseg.visualization.palette import css


class ModelClass(BaseModel):
    """A class of a model."""

    value: int = Field(description="The value of its pixels in a map.", examples=[0])
    name: str = Field(description="The name of the class.", examples=["water"])
    colour: str = Field(description="Its colour in images, in CSS notation.", examples=["#1e5adc"])


class ModelBand(BaseModel):
    """An input band of a model."""

    name: str = Field(description="The name of the band.", examples=["B02"])
    dtype: str = Field(description="The dtype of its values.", examples=["uint16"])


class ModelCard(BaseModel):
    """A model that is served."""

    name: str = Field(description="The name to use in the parameter `model`.", examples=["my_run"])
    sha256: str = Field(
        description="The SHA-256 of its file.", pattern="^[0-9a-f]{64}$", examples=["0123456789abcdef" * 4]
    )
    architecture: str = Field(description="The architecture of the network.", examples=["Unet on resnet34"])
    bands: list[ModelBand] = Field(description="The input bands, in order.")
    nodata: float | None = Field(description="The value of missing pixels.", examples=[0.0])
    gsd_m: float | None = Field(description="The pixel size in metres of its training data.", examples=[10.0])
    classes: list[ModelClass] = Field(description="The classes that it predicts.")
    nodata_value: int = Field(description="The value of missing pixels in a map.", examples=[255])
    scores: dict[str, float | None] = Field(
        description="Its scores; null where one is undefined.", examples=[{"miou": 0.71}]
    )
    scores_split: str | None = Field(description="The split that was scored.", examples=["test"])
    protocol: dict[str, str] = Field(description="How each score is defined.", examples=[{"miou": "mean over classes"}])


class Models(BaseModel):
    """All models; the first is the default."""

    models: list[ModelCard] = Field(description="The models that are served.")


class JobState(BaseModel):
    """The state of a job."""

    id: str = Field(
        description="The id of the job. Anyone who knows it may fetch the result.",
        examples=["0123456789abcdef0123456789abcdef"],
    )
    state: Literal["waiting", "running", "done", "failed"] = Field(
        description="The state of the job.", examples=["running"]
    )
    progress: float = Field(description="The finished share, 0 to 1.", ge=0, le=1, examples=[0.25])
    place: int | None = Field(
        description="Its place in the queue of small or of large jobs, by order of arrival. Large jobs let much "
        "smaller ones overtake them. It is null when the job is finished.",
        ge=1,
        examples=[1, None],
    )
    seconds_left: float | None = Field(
        description="The estimated seconds until it is done, including the jobs before it. It is null when the job is "
        "finished.",
        ge=0,
        examples=[41.5, None],
    )
    model: str = Field(description="The model in use.", examples=["my_run"])
    name: str = Field(description="The name of the image.", examples=["scene.tif"])
    detail: str = Field(description="The reason for a failure; empty otherwise.", examples=[""])
    warnings: list[str] = Field(
        description="Warnings about the result.",
        examples=[["scene.tif has other colours than the training's images."]],
    )
    result: str | None = Field(
        description="The path of the map once the job is done.",
        examples=[None, "/api/v1/jobs/0123456789abcdef0123456789abcdef/result"],
    )


def card(served: ServedModel) -> ModelCard:
    """Describe a served model."""
    known = describe(served)
    source = known.spec.inputs[0]
    named = zip(known.spec.class_names, known.spec.palette, strict=True)
    nodata = source.nodata if source.nodata is None or math.isfinite(source.nodata) else None
    return ModelCard(
        name=known.name,
        sha256=known.digest,
        architecture=known.architecture,
        bands=[ModelBand(name=name, dtype=source.dtype) for name in source.bands],
        nodata=nodata,
        gsd_m=source.gsd_m,
        classes=[ModelClass(value=i, name=name, colour=css(colour)) for i, (name, colour) in enumerate(named)],
        nodata_value=known.spec.ignore_index,
        scores={k: v if v is None or math.isfinite(v) else None for k, v in known.scores.items()},
        scores_split=known.split,
        protocol=dict(known.protocol),
    )
