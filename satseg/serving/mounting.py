"""The page for people as a part of the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from satseg.serving.examples import PICTURES
from satseg.serving.handlers import Handlers
from satseg.serving.layout import CSS, theme
from satseg.serving.maps import STATIC, static_folder
from satseg.serving.page import Page
from satseg.serving.sessions import Sessions

if TYPE_CHECKING:
    from satseg.serving.api.application import Application


def mount_page(app: FastAPI, application: Application) -> None:
    """Add the page at `/`."""
    parts, root = application, application.root.resolve()
    gr.set_static_paths([root / "visitors", root / PICTURES])  # not copied, so that no copy is left
    sessions = Sessions(root / "visitors", parts.served[0], parts.cfg.keep_pages_min * 60)
    sessions.keep_sweeping()
    handlers = Handlers(dict(parts.service.served), parts.jobs, sessions, parts.limits, root)
    for served in parts.served:
        _ = served.layer_names  # looked up before jobs run: while another thread is in the network, none may be found
    app.mount(f"/{STATIC}static", StaticFiles(directory=static_folder()))
    gr.mount_gradio_app(
        app,
        Page(handlers).blocks.queue(default_concurrency_limit=None, max_size=64, api_open=False),
        path="/",
        auth=parts.auth,
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
