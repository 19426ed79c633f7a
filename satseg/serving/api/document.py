"""What the OpenAPI document says of the API: parameters, bodies and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Path, Query

from satseg.attribution import METHODS
from satseg.serving.api.media import PNG, TIFF
from satseg.serving.api.problems import MEDIA_TYPE, Problem
from satseg.serving.uploads import LONGEST_NAME

WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": text}
    for status, text in {
        401: "User or password is wrong.",
        403: "A web page of another site asks.",
        404: "There is no such model or job.",
        406: "None of the media types that Accept names can be had.",
        408: "The image did not come in time.",
        409: "The job waits or runs; see Retry-After.",
        413: "Too many bytes or pixels.",
        415: "No image of a kind that is taken.",
        421: "The server is not called so.",
        422: "Damaged, no image that the model takes, too many areas for GeoJSON, or the job has failed.",
        429: "Too many wait; see Retry-After.",
        503: "About to stop, or out of memory or disk; see Retry-After.",
    }.items()
}
IMAGE = {
    "requestBody": {
        "required": True,
        "description": "A PNG, JPEG, TIFF or GeoTIFF image.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in (TIFF, PNG, "image/jpeg", "application/octet-stream")
        },
    }
}

ModelName = Annotated[
    str | None, Query(description="Which model; the first by default.", max_length=200, examples=["my_run"])
]
Name = Annotated[
    str, Query(description="What the image is called in answers.", max_length=LONGEST_NAME, examples=["scene.tif"])
]
Preflight = Annotated[
    Literal["stop", "warn"],
    Query(description="Refuse an image unlike those of the training, or only warn.", examples=["warn"]),
]
JobId = Annotated[
    str, Path(description="As it was given.", pattern="^[0-9a-f]{32}$", examples=["0123456789abcdef0123456789abcdef"])
]
Target = Annotated[
    str, Query(description="Name of the class to explain.", max_length=200, examples=["water", "building"])
]
Region = Annotated[
    str,
    Query(
        description="`predicted`: all pixels of the class; or `col,row`; or `col,row,width,height`.",
        pattern=r"^(predicted|\d{1,9},\d{1,9}(,\d{1,9},\d{1,9})?)$",
        examples=["predicted", "120,80", "100,60,64,64"],
    ),
]
Method = Annotated[
    str, Query(description=f"One of {', '.join(METHODS)}.", max_length=40, examples=[METHODS[0], METHODS[-1]])
]
Layer = Annotated[
    str,
    Query(description="`auto`, `decoder`, or a layer's name.", max_length=200, examples=["auto", "decoder"]),
]


def wrong(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the document says of answers that tell what is wrong."""
    return {status: WRONG[status] for status in (401, 403, 421, *statuses)}


def files(kinds: Sequence[str], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return what it says of files of these media types."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}
    return {status: {"description": "As Accept says.", "content": content}}
