"""The JSON of the API."""

from __future__ import annotations

from pydantic import BaseModel


class ModelClass(BaseModel):
    """A class of a model."""

    value: int
    name: str
    colour: str


class ModelBand(BaseModel):
    """A band that a model takes."""

    name: str
    dtype: str


class ModelCard(BaseModel):
    """A model that is served."""

    name: str
    sha256: str
    architecture: str
    bands: list[ModelBand]
    nodata: float | None
    gsd_m: float | None
    classes: list[ModelClass]
    nodata_value: int
    scores: dict[str, float | None]
    scores_split: str | None
    protocol: dict[str, str]


class Models(BaseModel):
    """All models; the first answers where none is named."""

    models: list[ModelCard]


class JobState(BaseModel):
    """How far a job is. `state` is waiting, running, done or failed; `detail` says why it failed."""

    id: str
    state: str
    progress: float
    model: str
    name: str
    detail: str
    warnings: list[str]
    result: str | None
