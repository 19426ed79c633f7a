"""The FastAPI application: the API, and optionally the app's page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from omegaconf import DictConfig
from starlette.responses import RedirectResponse

from satseg.environment import package_version
from satseg.files import cache_folder
from satseg.serve.api.guard import Attempts, Guard
from satseg.serve.api.job_store import JobStore
from satseg.serve.api.monitoring import Monitor, RequestMetrics
from satseg.serve.api.problems import add_handlers
from satseg.serve.api.routes import Api
from satseg.serve.api.service import Service
from satseg.serve.direct import Batches
from satseg.serve.headers import SecurityHeaders
from satseg.serve.hosts import is_local
from satseg.serve.jobs import Jobs
from satseg.serve.served_models import ServedModel
from satseg.serve.tickets import Ticket
from satseg.serve.uploads import Limits
from satseg.serve.visitors import Visitors

logger = logging.getLogger(__name__)

DOCS = "/api/v1/docs"
ANSWER_SECONDS = 60.0  # grace period for accepted requests once all jobs are finished


MountPage = Callable[[FastAPI, "Application"], None]


class Application:
    """The parts of a server.

    Args:
        cfg: The composed configuration of `satseg.app` or `satseg.serve`.
        served: The models; the first is the default.
        jobs: The job queue.
        root: Folder of temporary files, which the caller removes.
        auth: Required user and password.

    Raises:
        ConfigError: If another server uses the jobs folder, or it cannot be written.
    """

    def __init__(
        self, cfg: DictConfig, served: list[ServedModel], jobs: Jobs, root: Path, auth: tuple[str, str] | None = None
    ) -> None:
        self.cfg, self.served, self.jobs, self.root, self.auth = cfg, served, jobs, root, auth
        self.limits = Limits(int(cfg.max_upload_mb * 1e6), int(cfg.max_upload_mpx * 1e6))
        named = {one.name: one for one in served}
        direct = min(int(cfg.max_direct_mpx * 1e6), self.limits.num_pixels)
        self.service = Service(named, jobs, self.limits, direct, root / "requests", Batches(bool(cfg.batching)))
        self.store = JobStore(_jobs_folder(cfg, root), self.service, cfg.keep_jobs_h * 3600)
        self.monitor = Monitor(self.service)
        self.visitors, self.attempts = Visitors(), Attempts()

    def create(self, mount_page: MountPage | None = None) -> FastAPI:
        """Return the FastAPI application; start to warm up the models and to resume the jobs of an earlier server.

        Args:
            mount_page: Mounts the app's page at `/`; the API alone by default.
        """
        app: FastAPI = FastAPIOffline(
            title="satseg",
            description="Segments satellite and aerial images into classes.",
            version=package_version("satseg"),
            docs_url=DOCS,
            redoc_url=None,
            openapi_url="/api/v1/openapi.json",
            static_url="/api/v1/static",
        )
        app.include_router(Api(self.service, self.store).router)
        app.router.routes.extend(self.monitor.routes())
        add_handlers(app, self.service.root, self.jobs.retry_after)
        if mount_page is not None:
            mount_page(app, self)
        else:
            app.add_route("/", lambda request: RedirectResponse(DOCS), include_in_schema=False)
        app.add_middleware(
            Guard,
            visitors=self.visitors,
            attempts=self.attempts,
            auth=self.auth,
            is_local=is_local(self.cfg.host),
            trusted_hosts=self.cfg.trusted_hosts,
            login=mount_page is not None,
        )
        app.add_middleware(SecurityHeaders)
        app.add_middleware(RequestMetrics, monitor=self.monitor)
        self.jobs.submit(self._warm_up, force=True)
        self.store.resume_all()
        return app

    def _warm_up(self, ticket: Ticket) -> None:
        for served in self.served:
            ticket.tick(0)
            try:
                served.warm_up()
            except Exception as error:  # the server never becomes ready, which /readyz shows
                logger.exception("The model %s cannot run", served.name, exc_info=error)
                return
        self.service.ready.set()

    def drain(self) -> None:
        """Refuse new requests, and return when all accepted ones are answered."""
        self.jobs.drain()
        deadline = time.monotonic() + ANSWER_SECONDS
        while self.monitor.num_open and time.monotonic() < deadline:
            time.sleep(0.05)

    def close(self) -> None:
        """Cancel all jobs and shut down the threads."""
        self.jobs.close()
        self.store.close()
        self.service.close()


def _jobs_folder(cfg: DictConfig, root: Path) -> Path:
    """Return the jobs folder, which depends on the address, so that a restarted server finds its jobs."""
    if cfg.jobs_dir:
        return Path(cfg.jobs_dir)
    return root / "jobs" if cfg.port == 0 else cache_folder() / "jobs" / f"{cfg.host.replace(':', '_')}_{cfg.port}"
