"""Routes of the API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from satseg.attribution import METHODS
from satseg.errors import ConfigError, NotReadyError, SatsegError
from satseg.serve.api.document import (
    IMAGE,
    JobId,
    Layer,
    Method,
    ModelName,
    Name,
    Preflight,
    Region,
    Target,
    error_responses,
    file_responses,
)
from satseg.serve.api.job_records import Record
from satseg.serve.api.job_store import JobStore
from satseg.serve.api.receiving import check_headers, disk_errors
from satseg.serve.api.responses import (
    EVIDENCE,
    GEOJSON,
    MAPS,
    SUFFIXES,
    TIFF,
    convert,
    file_response,
    negotiated,
    start_conversion,
    warning_header,
)
from satseg.serve.api.schema import JobState, Models, card
from satseg.serve.api.service import Service
from satseg.serve.direct import Prepared, finish, prepare, segment
from satseg.serve.estimates import MAP, MAP_PAGE, PICTURE, Estimate
from satseg.serve.evidence import ExplainRequest, Explanation, estimate_evidence, explain_upload
from satseg.serve.segmenting import segment_upload
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Continuation, Ticket
from satseg.serve.uploads import Upload


class Api:
    """The API of a server.

    Args:
        service: Models, queue and limits.
        store: The jobs.
    """

    def __init__(self, service: Service, store: JobStore) -> None:
        self.service, self.store = service, store
        self.router = APIRouter(prefix="/api/v1")
        # fmt: off
        post: dict[str, Any] = {"openapi_extra": IMAGE, "methods": ["POST"]}
        upload_errors = error_responses(404, 408, 413, 415, 422, 429, 503)
        add = self.router.add_api_route
        add("/model", self.models, summary="List the models", tags=["model"], methods=["GET"], response_model=Models,
            responses=error_responses(), response_description="The models that are served; the first is the default.")
        add("/predict", self.predict, summary="Segment an image", tags=["image"], response_class=Response,
            responses=file_responses(MAPS) | upload_errors | error_responses(406), **post)
        add("/explain", self.explain, summary="Explain a class in an image", tags=["image"], response_class=Response,
            responses=file_responses(EVIDENCE) | upload_errors | error_responses(406), **post)
        add("/jobs", self.accept, summary="Create a job for a large image", tags=["jobs"], status_code=202,
            response_model=JobState, responses=upload_errors, response_description="The image was accepted.", **post)
        one: dict[str, Any] = {"tags": ["jobs"], "responses": error_responses(404, 422)}
        add("/jobs/{job}", self.state, summary="Get the state of a job", methods=["GET"], response_model=JobState,
            response_description="The state of the job.", **one)
        add("/jobs/{job}", self.forget, summary="Cancel and delete a job", methods=["DELETE"], status_code=204,
            response_class=Response, response_description="The job and its files were deleted.", **one)
        add("/jobs/{job}/result", self.result, summary="Fetch the map of a job", tags=["jobs"], methods=["GET"],
            response_class=Response, responses=file_responses(MAPS) | error_responses(404, 406, 409, 422, 429, 503))
        # fmt: on

    async def models(self) -> Models:
        """List the served models, with their bands, classes, scores and the hash of the model file."""
        cards = [await self.service.run_alongside(partial(card, served)) for served in self.service.served.values()]
        return Models(models=cards)

    async def predict(
        self, request: Request, model: ModelName = None, name: Name = "image", preflight: Preflight = "stop"
    ) -> Response:
        """Segment an image and return the map as GeoTIFF, PNG or GeoJSON, depending on the header Accept.

        Warnings about the result are in the header Satseg-Warnings, a JSON list. If the queue is full, the status is
        429, with the seconds to wait in the header Retry-After.
        """
        media, served = negotiated(request.headers.get("accept"), MAPS), self.service.model(model)
        check_headers(request, self.service.limits)
        async with self.service.request_folder() as folder:
            upload = await self._receive(request, folder / "upload", folder, name)
            self.service.check_direct(upload, "send it to /api/v1/jobs")
            self.service.jobs.check()
            has_room, is_long = self.service.batches.has_room(), not _estimate(served, upload, MAP).is_small
            prepare_upload = partial(prepare, served, upload, preflight, has_room=has_room)
            prepared = await self.service.run_alongside(prepare_upload, is_long=is_long)
            path = await self._compute_map(request, prepared, folder / "map.tif", media)
            self.service.count_pixels(upload)
            return file_response(path, media, f"{upload.stem}_classes{path.suffix}", warning_header(prepared.notes))

    async def _compute_map(self, request: Request, prepared: Prepared, output: Path, media: str) -> Path:
        batches, class_names = self.service.batches, prepared.served.spec.class_names

        def work(ticket: Ticket) -> Path | Continuation[Path | None] | None:
            segment(prepared, output, batches, ticket)
            if media != GEOJSON:
                return None
            finish(prepared, output)  # in the job, as polygons are slow and can be cancelled
            return start_conversion(output, media, class_names, self.service.costs, ticket)

        def make() -> Path:
            finish(prepared, output)
            return convert(output, media, class_names, Ticket())

        batches.add(prepared)
        try:
            made = await self.service.run(work, prepared.estimate, request)
        finally:
            batches.remove(prepared)
        return await self.service.run_alongside(make, is_long=not prepared.estimate.is_small) if made is None else made

    async def explain(
        self,
        request: Request,
        target: Target,
        region: Region = "predicted",
        method: Method = METHODS[0],
        layer: Layer = "auto",
        model: ModelName = None,
        name: Name = "image",
    ) -> Response:
        """Explain a class in an image: an overlay of the evidence as PNG, or the evidence map as GeoTIFF.

        If the image is larger than 1024 pixels, a part of it is explained. The header Satseg-Window has its column,
        row, width and height in pixels.
        """
        media, served = negotiated(request.headers.get("accept"), EVIDENCE), self.service.model(model)
        if target not in served.spec.class_names:
            raise ConfigError(f"There is no class {target}; choose {', '.join(served.spec.class_names)}.")
        if method not in METHODS:
            raise ConfigError(f"There is no method {method}; choose {', '.join(METHODS)}.")
        numbers = None if region == "predicted" else tuple(int(n) for n in region.split(","))
        query = ExplainRequest(served.spec.class_names.index(target), numbers, method, layer)
        check_headers(request, self.service.limits)
        async with self.service.request_folder() as folder:
            upload = await self._receive(request, folder / "upload", folder, name)
            self.service.check_direct(upload, "crop it to the part to explain")
            _check_region(upload, numbers)
            work = partial(_explain, served, upload, query, folder)
            shown = await self.service.run(work, _estimate(served, upload, MAP_PAGE), request)
            self.service.count_pixels(upload)
            headers = {"Satseg-Window": json.dumps(list(shown.window))}
            path = shown.map if media == TIFF else shown.overlay
            return file_response(path, media, f"{upload.stem}_evidence{path.suffix}", headers)

    async def accept(
        self,
        request: Request,
        response: Response,
        model: ModelName = None,
        name: Name = "image",
        preflight: Preflight = "stop",
    ) -> JobState:
        """Accept an image of any size up to the server's limits. Query its progress and map by the returned id.

        Jobs survive a restart of the server, and their maps are kept for some hours.
        """
        served = self.service.model(model)
        check_headers(request, self.service.limits)
        async with self.service.request_folder(patient=True) as folder:
            job, path = await run_in_threadpool(self.store.new)
            try:
                upload = await self._receive(request, path, folder, name)
                digest, class_names = served.models.digests[0], list(served.spec.class_names)
                record = Record(job, served.name, digest, class_names, upload.name, preflight)
                record.num_pixels = upload.info.width * upload.info.height
                await self.service.run_alongside(partial(self.store.accept, record, upload))
            except BaseException:
                await run_in_threadpool(self.store.abandon, job)
                raise
        response.headers["Location"] = f"{self.router.prefix}/jobs/{job}"
        return self._job_state(job)

    async def state(self, job: JobId) -> JobState:
        """Return the progress of a job, its place in the queue, and about how many seconds are left."""
        return self._job_state(job)

    async def forget(self, job: JobId) -> Response:
        """Cancel a waiting or running job, and delete its image and its map."""
        await run_in_threadpool(self.store.forget, job)
        return Response(status_code=204)

    async def result(self, request: Request, job: JobId) -> Response:
        """Return the map of a finished job as GeoTIFF, PNG or GeoJSON, depending on the header Accept."""
        media = negotiated(request.headers.get("accept"), MAPS)
        record, _ = self.store.find(job)
        if record.state == "failed":
            raise SatsegError(record.detail)
        if record.state != "done":
            position = self.store.queue_position(job)
            raise NotReadyError(f"The job is {record.state}; ask again.", position and position.seconds_left)
        path = self.store.map_of(job).with_suffix(SUFFIXES[media])
        if not path.exists():
            estimate = self.service.costs.estimate(PICTURE, record.num_pixels)
            path = await self.service.run(partial(self.store.convert, job, media), estimate, request)
        return file_response(path, media, f"{record.stem}_classes{path.suffix}", warning_header(record.warnings))

    async def _receive(self, request: Request, path: Path, folder: Path, name: str) -> Upload:
        await self.service.receive(request, path, folder)
        return await self.service.check(path, name)

    def _job_state(self, job: str) -> JobState:
        record, share = self.store.find(job)
        is_finished = record.state not in ("waiting", "running")  # though its ticket may still be in the lane
        position = None if is_finished else self.store.queue_position(job)
        result = f"{self.router.prefix}/jobs/{job}/result" if record.state == "done" else None
        return JobState(
            id=record.id,
            state=record.state,
            progress=round(share, 4),
            place=position and position.place,
            seconds_left=position and round(position.seconds_left, 1),
            model=record.model,
            name=record.name,
            detail=record.detail,
            warnings=record.warnings,
            result=result,
        )


def _estimate(served: ServedModel, upload: Upload, kind: str) -> Estimate:
    return served.costs.estimate(kind, upload.info.width * upload.info.height)


def _explain(
    served: ServedModel, upload: Upload, query: ExplainRequest, folder: Path, ticket: Ticket
) -> Explanation | Continuation[Explanation]:
    with disk_errors():
        (folder / "map").mkdir()
    found = segment_upload(served, upload, folder / "map", ticket)
    work = partial(explain_upload, served, found, query, folder / "evidence")
    return Continuation(work, estimate_evidence(served, upload.info.width * upload.info.height, query.method))


def _check_region(upload: Upload, region: Sequence[int] | None) -> None:
    if region is None:
        return
    col, row, width, height = (*region, 1, 1)[:4]
    info = upload.info
    if min(width, height) < 1 or col + width > info.width or row + height > info.height:
        raise ConfigError(
            f"The region {','.join(map(str, region))} does not lie inside {upload.name}, which has {info.width} x "
            f"{info.height} pixels."
        )
