"""Parameters, request bodies and responses of the API, as documented in OpenAPI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Path, Query

from satseg.attribution import METHODS
from satseg.serve.api.problems import MEDIA_TYPE, Problem
from satseg.serve.api.responses import PNG, TIFF
from satseg.serve.uploads import MAX_NAME_LENGTH

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": text}
    for status, text in {
        401: "The user or the password is wrong or missing.",
        403: "The request comes from a web page of another site, which is not allowed.",
        404: "There is no such model or job, or the job has expired.",
        406: "The response is not available in any of the media types in the header Accept.",
        408: "The image took too long to upload.",
        409: "The job is not finished yet. The header Retry-After says when it should be.",
        413: "The image has too many bytes, or too many pixels for a single request.",
        415: "The body is not an image of an accepted format, or it is a form.",
        421: "The server does not accept the name in the header Host.",
        422: "The image is damaged or does not fit the model, a parameter is invalid, there are too many polygons for "
        "GeoJSON, or the job has failed. An image that is unlike the training data is segmented with "
        "`?preflight=warn`.",
        429: "The queue is full. The header Retry-After has the seconds to wait.",
        503: "The server is shutting down, or out of memory or disk space. See the header Retry-After.",
    }.items()
}
IMAGE = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a PNG, JPEG, TIFF or GeoTIFF image, as the body itself and not as a form.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in (TIFF, PNG, "image/jpeg", "application/octet-stream")
        },
    }
}

ModelName = Annotated[
    str | None,
    Query(
        description="The name of the model to use. The default is the first model that is served.",
        max_length=200,
        examples=["my_run"],
    ),
]
Name = Annotated[
    str,
    Query(
        description="The name of the image in messages and in file names.",
        max_length=MAX_NAME_LENGTH,
        examples=["scene.tif"],
    ),
]
Preflight = Annotated[
    Literal["stop", "warn"],
    Query(
        description="What to do with an image that is unlike the training data: `stop` refuses it, and `warn` "
        "segments it and returns the differences as warnings.",
        examples=["warn"],
    ),
]
JobId = Annotated[
    str,
    Path(
        description="The id of the job, as returned on its creation.",
        pattern="^[0-9a-f]{32}$",
        examples=["0123456789abcdef0123456789abcdef"],
    ),
]
Target = Annotated[
    str, Query(description="The name of the class to explain.", max_length=200, examples=["water", "building"])
]
Region = Annotated[
    str,
    Query(
        description="The pixels to explain: `predicted` for all pixels predicted as the class, `col,row` for one "
        "pixel, or `col,row,width,height` for a box.",
        pattern=r"^(predicted|\d{1,9},\d{1,9}(,\d{1,9},\d{1,9})?)$",
        examples=["predicted", "120,80", "100,60,64,64"],
    ),
]
Method = Annotated[
    str,
    Query(
        description=f"The attribution method, one of {', '.join(METHODS)}; the first two are fast.",
        max_length=40,
        examples=[METHODS[0], METHODS[-1]],
    ),
]
Layer = Annotated[
    str,
    Query(
        description="The layer to explain, for gradcam and hirescam: `auto` for the deepest encoder layer, `decoder` "
        "for the input of the segmentation head, or a layer's name.",
        max_length=200,
        examples=["auto", "decoder"],
    ),
]


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of error responses."""
    return {status: ERRORS[status] for status in (401, 403, 421, *statuses)}


def file_responses(kinds: Sequence[str], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of a file response in these media types."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}
    return {status: {"description": "The file, in the media type requested by the header Accept.", "content": content}}
