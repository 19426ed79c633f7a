"""Health checks and Prometheus metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from satseg.serve.api.service import Service

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Monitor:
    """Metrics of a server.

    Args:
        service: The service to monitor.

    Attributes:
        num_open: Number of API requests whose responses are not complete.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.num_open = 0
        self.registry = CollectorRegistry()
        labels = ["method", "route"]
        self.requests = Counter("satseg_requests", "Requests answered.", [*labels, "status"], registry=self.registry)
        self.seconds = Histogram(
            "satseg_request_seconds", "Time to the end of the answer.", labels, buckets=SECONDS, registry=self.registry
        )
        self.errors = Counter("satseg_errors", "Requests that failed on the server's side.", registry=self.registry)
        self.registry.register(service.megapixels)
        self.registry.register(_Queue(service))

    def routes(self) -> list[Route]:
        """Return the routes for health checks and metrics."""
        return [Route("/healthz", self.alive), Route("/readyz", self.ready), Route("/metrics", self.metrics)]

    async def alive(self, request: Request) -> Response:
        """Respond while the process is alive."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Return whether images are accepted: the models have warmed up, and the server is not shutting down."""
        ready = self.service.ready.is_set() and self.service.jobs.is_open
        state = "ready" if ready else "stopping" if self.service.ready.is_set() else "warming up"
        return JSONResponse({"status": state}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Return the metrics in Prometheus' text format."""
        return PlainTextResponse(generate_latest(self.registry), media_type="text/plain; version=0.0.4")


class _Queue:
    """Collects queue metrics on each scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("satseg_queue", "Jobs that wait or run.", self._service.jobs.num_unfinished)
        yield GaugeMetricFamily("satseg_queue_capacity", "Images that may wait.", self._service.jobs.capacity)
        yield GaugeMetricFamily("satseg_queue_seconds", "Work that waits or runs.", self._service.jobs.seconds_left())
        batches = self._service.batches.num_computed
        yield CounterMetricFamily("satseg_batches", "Batches of small images that were computed.", batches)


class RequestMetrics:
    """ASGI middleware that counts and times requests."""

    def __init__(self, app: ASGIApp, monitor: Monitor) -> None:
        self._app, self._monitor = app, monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500
        of_api = str(scope["path"]).startswith("/api/")  # the page's may last as long as it is open
        self._monitor.num_open += of_api

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self._monitor.num_open -= of_api
            route = scope.get("route")
            name, method = getattr(route, "path", "other"), str(scope["method"])
            method = method if method in ("GET", "POST", "DELETE", "HEAD", "PUT") else "other"
            self._monitor.requests.labels(method, name, str(status)).inc()
            self._monitor.seconds.labels(method, name).observe(time.perf_counter() - start)
            if status == 500:
                self._monitor.errors.inc()
