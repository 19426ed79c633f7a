"""Mounting the page in the FastAPI application."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from gradio import route_utils
from gradio.utils import get_upload_folder
from starlette.routing import Mount

from satseg.serve.page.events import events_of
from satseg.serve.page.examples import PICTURES
from satseg.serve.page.gate import Gate
from satseg.serve.page.handlers import Handlers
from satseg.serve.page.layout import CSS, theme
from satseg.serve.page.login import Login
from satseg.serve.page.maps import static_folders
from satseg.serve.page.page import Page
from satseg.serve.page.sessions import Sessions
from satseg.serve.page.upload_folder import SingleFileParser, UploadFolder

if TYPE_CHECKING:
    from satseg.serve.api.application import Application


def mount_page(app: FastAPI, application: Application) -> None:
    """Add the page at `/`, and a login page if a password is required."""
    parts, root = application, application.root.resolve()
    gr.set_static_paths([root / "visitors", root / PICTURES])  # served in place, as copies would stay behind
    sessions = Sessions(root / "visitors", parts.served[0], parts.cfg.keep_pages_min * 60)
    transfers = parts.service.transfers
    sent = UploadFolder(Path(get_upload_folder()), transfers.most, sessions.keep_seconds, transfers)
    sessions.start_sweeping(sent.sweep)
    route_utils.GradioMultiPartParser = SingleFileParser
    for kind in (gr.Dropdown, gr.CheckboxGroup):
        _refuse_without_traceback(kind)
    handlers = Handlers(dict(parts.service.served), parts.jobs, sessions, parts.limits, root)
    for served in parts.served:
        _ = served.layer_names  # listed before jobs run, as a concurrent run would disturb it
    for path, folder in static_folders().items():
        app.mount(f"/{path}", StaticFiles(directory=folder))
    if parts.auth is not None:
        app.router.routes.extend(Login(parts.visitors, parts.auth, parts.attempts).routes())
    blocks = Page(handlers).blocks.queue(default_concurrency_limit=None, max_size=64, api_open=False)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=theme(),
        css_paths=CSS,
        max_file_size=parts.limits.num_bytes,
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )
    blocks.has_launched = True  # or Gradio would not check file paths in events
    mounted = app.router.routes[-1]
    assert isinstance(mounted, Mount)
    mounted.app = Gate(mounted.app, parts.visitors, sent, root / PICTURES, sessions, events_of(blocks))


def _refuse_without_traceback(kind: type[gr.Dropdown] | type[gr.CheckboxGroup]) -> None:
    """Make a component class refuse invalid choices without logging a traceback.

    Gradio creates new components when choices change, so the class itself is patched; for a subclass, Gradio would
    write a stub file beside this module.
    """
    preprocess = kind.preprocess

    @wraps(preprocess)
    def refusing(self: Any, payload: Any) -> Any:
        try:
            return preprocess(self, payload)
        except gr.Error as error:
            error.print_exception = False
            raise

    kind.preprocess = refusing
