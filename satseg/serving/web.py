"""The server: one process, one queue of jobs, listening on this machine alone unless told otherwise."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from satseg.errors import ConfigError
from satseg.serving.jobs import Jobs
from satseg.serving.segmenting import Served, open_served
from satseg.serving.uploads import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PARTING_SECONDS = 5  # that open pages have when the server stops
# Gradio reads these when it is imported. Nothing is reported to anyone, and nothing is looked up on a hub.
SILENCE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def serve(cfg: DictConfig) -> None:
    """Load the models, and serve the app until the process is told to stop.

    Args:
        cfg: The composed configuration of `satseg.app`.

    Raises:
        ConfigError: If the address cannot be used.
        CheckpointError: If a model cannot be loaded.
    """
    auth = parse_auth(cfg.auth)
    with listening(cfg.host, cfg.port) as listener, tempfile.TemporaryDirectory(prefix="satseg-") as root:
        if cfg.host not in LOOPBACK and auth is None:
            print(
                f"WARNING: host={cfg.host} lets everyone who reaches this machine use the app, without a password. "
                "Set auth=user:password, or host=127.0.0.1.",
                file=sys.stderr,
            )
        os.environ |= SILENCE | {"GRADIO_TEMP_DIR": f"{root}/gradio"}
        jobs = Jobs(cfg.queue_size)
        app = create_app(cfg, open_served(cfg), jobs, Path(root), auth)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # once the server is down: what is temporary goes, too
        try:
            _run(app, listener, cfg.browser)
        finally:
            jobs.close()


def create_app(
    cfg: DictConfig, served: list[Served], jobs: Jobs, root: Path, auth: tuple[str, str] | None = None
) -> FastAPI:
    """Return the FastAPI application with the app's page at `/`.

    Args:
        cfg: The composed configuration of `satseg.app`.
        served: The models, the first of which a visitor finds chosen.
        jobs: The queue.
        root: Folder of temporary files; the caller's to remove.
        auth: User and password that are asked for.
    """
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.staticfiles import StaticFiles

    from satseg.serving.handlers import Handlers
    from satseg.serving.maps import STATIC, static_folder
    from satseg.serving.page import CSS, Page, theme
    from satseg.serving.sessions import Sessions

    limits = Limits(int(cfg.max_upload_mb * 1e6), int(cfg.max_upload_mpx * 1e6))
    handlers = Handlers({one.name: one for one in served}, jobs, Sessions(root, served[0]), limits, root)
    app = FastAPI(title="satseg", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount(f"/{STATIC}static", StaticFiles(directory=static_folder()))
    page = Page(handlers).blocks.queue(default_concurrency_limit=None, max_size=64, api_open=False)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth=auth,
        theme=theme(),
        css_paths=CSS,
        max_file_size=limits.num_bytes,
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )
    return mounted


def parse_auth(auth: str | None) -> tuple[str, str] | None:
    """Return user and password.

    Raises:
        ConfigError: If it is not both.
    """
    if auth is None:
        return None
    user, colon, password = str(auth).partition(":")
    if not (user and colon and password):
        raise ConfigError("auth= takes user:password.")
    return user, password


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Take an address before models are loaded; port 0 is any that is free.

    Raises:
        ConfigError: If it cannot be had.
    """
    if type(port) is not int or not 0 <= port < 65536:
        raise ConfigError(f"port={port}: expected a whole number from 0 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(f"host={host} port={port} cannot be used ({error.strerror}); set another port=.") from error
    with listener:
        yield listener


def _run(app: FastAPI, listener: socket.socket, browser: bool) -> None:
    import uvicorn

    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=PARTING_SECONDS, server_header=False)
    listener.listen()  # from here on who asks is answered
    print(f"Open {address} in a browser; Ctrl-C ends it.", flush=True)
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    uvicorn.Server(config).run(sockets=[listener])
