"""The JSON of the API."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class ModelClass(BaseModel):
    """A class of a model."""

    value: int = Field(examples=[0])
    name: str = Field(examples=["water"])
    colour: str = Field(examples=["#1e5adc"])


class ModelBand(BaseModel):
    """A band that a model takes."""

    name: str = Field(examples=["B02"])
    dtype: str = Field(examples=["uint16"])


class ModelCard(BaseModel):
    """A model that is served."""

    name: str = Field(examples=["my_run"])
    sha256: str = Field(pattern="^[0-9a-f]{64}$", examples=["0123456789abcdef" * 4])
    architecture: str = Field(examples=["Unet on resnet34"])
    bands: list[ModelBand]
    nodata: float | None = Field(examples=[0.0])
    gsd_m: float | None = Field(examples=[10.0])
    classes: list[ModelClass]
    nodata_value: int = Field(examples=[255])
    scores: dict[str, float | None] = Field(examples=[{"miou": 0.71}])
    scores_split: str | None = Field(examples=["test"])
    protocol: dict[str, str] = Field(examples=[{"miou": "mean over classes"}])


class Models(BaseModel):
    """All models; the first answers where none is named."""

    models: list[ModelCard]


class JobState(BaseModel):
    """How far a job is. `state` is waiting, running, done or failed; `detail` says why it failed.

    `place` is 1 for a job that runs and 2 for the one that is next. `seconds_left` is what is left until it is done, as
    far as the speed of this server and the jobs before it tell; both are null when it is finished.
    """

    id: str = Field(examples=["0123456789abcdef0123456789abcdef"])
    state: Literal["waiting", "running", "done", "failed"] = Field(examples=["running"])
    progress: float = Field(ge=0, le=1, examples=[0.25])
    place: int | None = Field(ge=1, examples=[1, None])
    seconds_left: float | None = Field(ge=0, examples=[41.5, None])
    model: str = Field(examples=["my_run"])
    name: str = Field(examples=["scene.tif"])
    detail: str = Field(examples=[""])
    warnings: list[str] = Field(examples=[["scene.tif has other colours than the training's images."]])
    result: str | None = Field(examples=[None, "/api/v1/jobs/0123456789abcdef0123456789abcdef/result"])
