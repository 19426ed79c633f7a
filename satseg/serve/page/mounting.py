"""The page for people as a part of the application."""

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
    """Add the page at `/`, and where there is a password, the one that asks for it."""
    parts, root = application, application.root.resolve()
    gr.set_static_paths([root / "visitors", root / PICTURES])  # not copied, so that no copy is left
    sessions = Sessions(root / "visitors", parts.served[0], parts.cfg.keep_pages_min * 60)
    arrivals = parts.service.arrivals
    sent = UploadFolder(Path(get_upload_folder()), arrivals.most, sessions.keep_seconds, arrivals)
    sessions.keep_sweeping(sent.sweep)
    route_utils.GradioMultiPartParser = SingleFileParser
    for kind in (gr.Dropdown, gr.CheckboxGroup):
        _refuse_without_traceback(kind)
    handlers = Handlers(dict(parts.service.served), parts.jobs, sessions, parts.limits, root)
    for served in parts.served:
        _ = served.layer_names  # looked up before jobs run: while another thread is in the network, none may be found
    for place, folder in static_folders().items():
        app.mount(f"/{place}", StaticFiles(directory=folder))
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
    blocks.has_launched = True  # or Gradio would not check the paths in events
    mounted = app.router.routes[-1]
    assert isinstance(mounted, Mount)
    mounted.app = Gate(mounted.app, parts.visitors, sent, root / PICTURES, sessions, events_of(blocks))


def _refuse_without_traceback(kind: type[gr.Dropdown] | type[gr.CheckboxGroup]) -> None:
    """Have a kind of menu refuse what is none of its choices without a traceback in the log: nothing failed here.

    Gradio makes new menus of the kind as choices change, so it is changed as a whole; a subclass would make Gradio
    write a file beside this one.
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
