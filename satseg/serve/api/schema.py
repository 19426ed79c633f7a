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
    name: str = Field(description="What the class is called.", examples=["water"])
    colour: str = Field(description="Its colour in pictures, as in CSS.", examples=["#1e5adc"])


class ModelBand(BaseModel):
    """A band that a model takes."""

    name: str = Field(description="What the band is called.", examples=["B02"])
    dtype: str = Field(description="The kind of number that it holds.", examples=["uint16"])


class ModelCard(BaseModel):
    """A model that is served."""

    name: str = Field(description="What it is called in the parameter `model`.", examples=["my_run"])
    sha256: str = Field(
        description="The SHA-256 of its file.", pattern="^[0-9a-f]{64}$", examples=["0123456789abcdef" * 4]
    )
    architecture: str = Field(description="What kind of network it is.", examples=["Unet on resnet34"])
    bands: list[ModelBand] = Field(description="The bands that it takes, in order.")
    nodata: float | None = Field(description="The number that pixels without an image have.", examples=[0.0])
    gsd_m: float | None = Field(description="The side of a pixel in metres, as in its training.", examples=[10.0])
    classes: list[ModelClass] = Field(description="The classes that it tells apart.")
    nodata_value: int = Field(description="The value in a map where there is no image.", examples=[255])
    scores: dict[str, float | None] = Field(
        description="Its scores; null where one cannot be had.", examples=[{"miou": 0.71}]
    )
    scores_split: str | None = Field(description="The part of the data that they are of.", examples=["test"])
    protocol: dict[str, str] = Field(description="How scores are computed.", examples=[{"miou": "mean over classes"}])


class Models(BaseModel):
    """All models; the first answers where none is named."""

    models: list[ModelCard] = Field(description="The models that are served.")


class JobState(BaseModel):
    """How far a job is."""

    id: str = Field(
        description="What the job is called in addresses. Whoever knows it may have the result.",
        examples=["0123456789abcdef0123456789abcdef"],
    )
    state: Literal["waiting", "running", "done", "failed"] = Field(
        description="Whether it waits, runs, is done or has failed.", examples=["running"]
    )
    progress: float = Field(description="The share that is finished, 0 to 1.", ge=0, le=1, examples=[0.25])
    place: int | None = Field(
        description="Its place among the jobs of its kind, large or small, in the order in which they came. A large "
        "job lets much smaller ones pass. It is null when the job is finished.",
        ge=1,
        examples=[1, None],
    )
    seconds_left: float | None = Field(
        description="About how many seconds are left until it is done, by the speed of this server and the work before "
        "it. It is null when the job is finished.",
        ge=0,
        examples=[41.5, None],
    )
    model: str = Field(description="The model that segments it.", examples=["my_run"])
    name: str = Field(description="What the image is called.", examples=["scene.tif"])
    detail: str = Field(description="Why it failed; empty if it has not.", examples=[""])
    warnings: list[str] = Field(
        description="What to know before trusting the map.",
        examples=[["scene.tif has other colours than the training's images."]],
    )
    result: str | None = Field(
        description="Where the map is when it is done.",
        examples=[None, "/api/v1/jobs/0123456789abcdef0123456789abcdef/result"],
    )


def card(served: ServedModel) -> ModelCard:
    """Return what is known of a model."""
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
