"""What the OpenAPI document says of the API: parameters, bodies and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Path, Query

from satseg.attribution import METHODS
from satseg.serve.api.problems import MEDIA_TYPE, Problem
from satseg.serve.api.responses import PNG, TIFF
from satseg.serve.uploads import MAX_NAME_LENGTH

WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": text}
    for status, text in {
        401: "The user or the password is wrong, or missing.",
        403: "A web page of another site asks, which is not allowed.",
        404: "There is no such model or job, or the job's time is over.",
        406: "The answer cannot be had in any of the media types that the header Accept names.",
        408: "The image did not come to its end in time.",
        409: "The job still waits or runs. The header Retry-After says when it should be done.",
        413: "The image has too many bytes, or too many pixels for an answer at once.",
        415: "The body is no image of a kind that is taken, or it is a form.",
        421: "The server is not called by the name in the header Host.",
        422: "The image is damaged or nothing that the model takes, a parameter cannot be used, there are too many "
        "areas for GeoJSON, or the job has failed. An image that is unlike those of the training is segmented with "
        "`?preflight=warn`.",
        429: "Too much work waits already. The header Retry-After says in how many seconds it should be done.",
        503: "The server is about to stop, or has no memory or disk left. See the header Retry-After.",
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
        description="The name of the model to use. By default it is the first that is served.",
        max_length=200,
        examples=["my_run"],
    ),
]
Name = Annotated[
    str,
    Query(
        description="What the image is called in messages and in the names of files that come back.",
        max_length=MAX_NAME_LENGTH,
        examples=["scene.tif"],
    ),
]
Preflight = Annotated[
    Literal["stop", "warn"],
    Query(
        description="What happens to an image that is unlike those of the training: `stop` refuses it, and `warn` "
        "segments it as it is, and says what is unlike.",
        examples=["warn"],
    ),
]
JobId = Annotated[
    str,
    Path(
        description="The id of the job, as it was given when the image was taken.",
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
        description="The pixels to explain: `predicted` for all that are predicted as the class, `col,row` for one "
        "pixel, or `col,row,width,height` for a box.",
        pattern=r"^(predicted|\d{1,9},\d{1,9}(,\d{1,9},\d{1,9})?)$",
        examples=["predicted", "120,80", "100,60,64,64"],
    ),
]
Method = Annotated[
    str,
    Query(
        description=f"How evidence is found. It is one of {', '.join(METHODS)}; the first two are quick.",
        max_length=40,
        examples=[METHODS[0], METHODS[-1]],
    ),
]
Layer = Annotated[
    str,
    Query(
        description="The layer whose maps are shown, for gradcam and hirescam: `auto` for the deepest of the encoder, "
        "`decoder` for what the head sees, or a layer's name.",
        max_length=200,
        examples=["auto", "decoder"],
    ),
]


def wrong(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the document says of answers that tell what is wrong."""
    return {status: WRONG[status] for status in (401, 403, 421, *statuses)}


def files(kinds: Sequence[str], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return what it says of files of these media types."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}
    return {status: {"description": "The file, in the media type that the header Accept asks for.", "content": content}}
