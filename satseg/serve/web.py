"""The server: one process with one job queue, on the loopback address by default."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from satseg.errors import ConfigError, MissingPackageError
from satseg.serve.hosts import is_local

if TYPE_CHECKING:
    from fastapi import FastAPI

    from satseg.serve.api.application import Application
    from satseg.serve.connections import Network

API_PACKAGES, PAGE_PACKAGES = ("fastapi_offline", "prometheus_client", "uvicorn"), ("bokeh", "gradio")
SHUTDOWN_SECONDS = 5  # grace period for open pages when the server stops
TICKS_PER_SECOND = 10  # of uvicorn's main loop
# No telemetry and no look-ups on a hub. Gradio and the model libraries read these on import, so they are imported late.
OFFLINE_ENVIRONMENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def serve(cfg: DictConfig, *, with_page: bool) -> None:
    """Load the models, and serve until the process is stopped.

    On SIGTERM the server refuses new images, finishes those it has accepted, and exits with 0. Ctrl-C stops at once;
    API jobs resume when the server is started again.

    Args:
        cfg: The composed configuration of `satseg.app` or `satseg.serve`.
        with_page: Whether to serve the app's page, too.

    Raises:
        ConfigError: If an option cannot be used.
        CheckpointError: If a model cannot be loaded.
        MissingPackageError: If the server's packages are not installed.
    """
    os.environ |= OFFLINE_ENVIRONMENT
    _check_packages(with_page)
    auth = parse_auth(cfg.auth)
    _check_numbers(cfg, with_page)
    proxies = parse_proxies(cfg.proxies)
    with listening(cfg.host, cfg.port) as listener, tempfile.TemporaryDirectory(prefix="satseg-") as root:
        if not is_local(cfg.host) and auth is None:
            print(
                f"WARNING: host={cfg.host} lets anyone who can reach this machine use the models without a password. "
                "Set auth=user:password, or host=127.0.0.1.",
                file=sys.stderr,
            )
        os.environ["GRADIO_TEMP_DIR"] = f"{root}/gradio"
        from satseg.serve.api.application import Application
        from satseg.serve.jobs import Jobs
        from satseg.serve.served_models import load_models

        application = Application(cfg, load_models(cfg), Jobs(cfg.queue_size, cfg.queue_s), Path(root), auth)
        if with_page:
            from satseg.serve.page.mounting import mount_page

            app = application.create(mount_page)
        else:
            app = application.create()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # after shutdown, to remove temporary files
        try:
            _run(app, application, listener, proxies, with_page, with_page and cfg.browser)
        finally:
            application.close()


def parse_auth(auth: str | None) -> tuple[str, str] | None:
    """Split `user:password`.

    Raises:
        ConfigError: If either is missing.
    """
    if auth is None:
        return None
    user, colon, password = str(auth).partition(":")
    if not (user and colon and password):
        raise ConfigError("auth= takes user:password.")
    return user, password


def parse_proxies(proxies: Sequence[str]) -> list[Network]:
    """Parse the networks of the proxies in front of the server.

    Raises:
        ConfigError: If one is neither an address nor a network.
    """
    try:
        return [ipaddress.ip_network(str(proxy)) for proxy in proxies]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"proxies= takes addresses and networks, [127.0.0.1,10.1.0.0/16]: {error}.") from error


def _check_packages(with_page: bool) -> None:
    extra, names = ("app", (*API_PACKAGES, *PAGE_PACKAGES)) if with_page else ("serve", API_PACKAGES)
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(f"{name} is not installed: pip install 'satseg[{extra}]'.")


def _check_numbers(cfg: DictConfig, with_page: bool) -> None:
    of_page = ("keep_pages_min",) if with_page else ()
    for name in ("max_upload_mb", "max_upload_mpx", "max_direct_mpx", "keep_jobs_h", *of_page):
        if isinstance(cfg[name], bool) or not isinstance(cfg[name], int | float) or not 0 < cfg[name] < 1e9:
            raise ConfigError(f"{name}={cfg[name]}: expected a number above 0.")
    if cfg.batch_size is not None and (type(cfg.batch_size) is not int or cfg.batch_size < 1):
        raise ConfigError(f"batch_size={cfg.batch_size}: expected a whole number of at least 1.")
    if isinstance(cfg.queue_s, bool) or not isinstance(cfg.queue_s, int | float) or not 0 <= cfg.queue_s < 1e9:
        raise ConfigError(f"queue_s={cfg.queue_s}: expected a number of seconds, at least 0.")
    if type(cfg.queue_size) is not int or cfg.queue_size < 0:
        raise ConfigError(f"queue_size={cfg.queue_size}: expected a whole number of at least 0.")


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Bind an address before models are loaded; port 0 is any free port. Early requests wait until models are loaded.

    Raises:
        ConfigError: If the address cannot be bound.
    """
    if type(port) is not int or not 0 <= port < 65536:
        raise ConfigError(f"port={port}: expected a whole number from 0 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)  # two sockets may bind the same address, but only one can listen
    except OSError as error:
        raise ConfigError(f"host={host} port={port} cannot be used ({error.strerror}); set another port=.") from error
    with listener:
        yield listener


def _run(
    app: FastAPI,
    application: Application,
    listener: socket.socket,
    proxies: Sequence[Network],
    with_page: bool,
    browser: bool,
) -> None:
    import uvicorn

    from satseg.serve.connections import BACKLOG, CompleteForms, Connection, drop_slow, max_connections

    class Server(uvicorn.Server):
        """Stops at once on Ctrl-C or a second SIGTERM; on the first SIGTERM, after finishing accepted requests."""

        async def on_tick(self, counter: int) -> bool:
            if counter % TICKS_PER_SECOND == 0:
                drop_slow(self.server_state.connections, time.monotonic())
            return await super().on_tick(counter)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig == signal.SIGTERM and application.jobs.is_open:
                threading.Thread(target=self._end_later, args=(sig,), daemon=True).start()
                return
            application.jobs.close(wait=False)
            super().handle_exit(sig, frame)

        def _end_later(self, sig: int) -> None:
            application.drain()
            super().handle_exit(sig, None)

    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    config = uvicorn.Config(
        CompleteForms(app),
        http=partial(Connection, proxies=proxies, most=max_connections()),  # type: ignore[arg-type]
        ws="none",  # not used
        backlog=BACKLOG,
        forwarded_allow_ips=[str(proxy) for proxy in proxies],
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
    )
    end = "in a browser; Ctrl-C stops it." if with_page else "see /api/v1/docs; Ctrl-C stops it."
    print(f"Open {address} {end}" if with_page else f"Listening on {address}; {end}", flush=True)
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    Server(config).run(sockets=[listener])
