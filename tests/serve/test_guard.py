"""Access control on every route: login, cross-site requests, host names, and security headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from browser_visitor import Assets
from hydra import compose, initialize_config_dir
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from satseg.config import CONFIG_DIR

pytestmark = pytest.mark.slow
AUTH = ("me", "secret, wörd")
ADDRESS = "http://127.0.0.1:7860"
OPEN = {"/healthz", "/readyz", "/login"}
# Routes of Gradio that the page needs; no others are reachable.
FILE_ROUTES = {"/", "/favicon.ico", "/theme.css", "/assets/{path:path}", "/static/{path:path}", "/svelte/{path:path}"}
PAGE_ROUTES = FILE_ROUTES | {
    f"/gradio_api/{path}"
    for path in (
        "upload", "upload_progress", "queue/join", "queue/data", "run/{api_name}", "cancel", "reset", "app_id",
        "startup-events", "theme.css", "heartbeat/{session_hash}", "file={path_or_url:path}",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def make(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Return a function that makes applications with the given options."""
    import os

    from satseg.serve.web import OFFLINE_ENVIRONMENT

    os.environ |= OFFLINE_ENVIRONMENT
    from satseg.serve.api.application import Application
    from satseg.serve.jobs import Jobs
    from satseg.serve.served_models import load_models

    with ExitStack() as stack, initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        served = load_models(compose("app", [f"checkpoint={assets.rgb_model}", "engine=torch"]))

        def make_application(*options: str, auth: tuple[str, str] | None = None, with_page: bool = True) -> Starlette:
            root = tmp_path_factory.mktemp("root")
            os.environ["GRADIO_TEMP_DIR"] = f"{root}/gradio"
            stack.callback(os.environ.pop, "GRADIO_TEMP_DIR", None)
            from satseg.serve.page.mounting import mount_page  # Gradio reads the variable above on import

            cfg = compose("app", [f"jobs_dir={root / 'jobs'}", *options])
            application = Application(cfg, served, Jobs(8), root, auth)
            stack.callback(application.close)
            return application.create(mount_page if with_page else None)

        yield make_application


@pytest.fixture(scope="module")
def protected(make) -> Starlette:  # type: ignore[no-untyped-def]
    return make(auth=AUTH)


@pytest.fixture(scope="module")
def local(make) -> Starlette:  # type: ignore[no-untyped-def]
    return make("trusted_hosts=[maps.example.org,'*.proxy.example']")


@pytest.fixture(scope="module")
def public(make) -> Starlette:  # type: ignore[no-untyped-def]
    return make("host=0.0.0.0")


def routes(app: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield methods and path patterns of all routes, including those of mounted applications."""
    for route in app.routes:  # type: ignore[attr-defined]
        if isinstance(route, Mount):
            yield from routes(route, prefix + route.path) if route.routes else [("GET", f"{prefix}{route.path}/x.js")]
        elif isinstance(route, WebSocketRoute):
            yield "WEBSOCKET", prefix + route.path
        elif hasattr(route, "original_router"):  # a router included by FastAPI
            yield from routes(route.original_router, prefix + route.include_context.prefix)
        else:
            assert isinstance(route, Route), route  # extend this function for new kinds of routes
            for method in route.methods or ():
                yield method, prefix + route.path


def filled(pattern: str) -> str:
    return re.sub(r"\{\w+(:\w+)?\}", "x", pattern)


def client(app: Starlette, **headers: str) -> TestClient:
    return TestClient(app, ADDRESS, headers=headers, follow_redirects=False, client=("127.0.0.1", 50000))


def test_all_routes_except_login_and_health_checks_require_a_login(protected: Starlette) -> None:
    all_routes = set(routes(protected))
    assert len(all_routes) > 80 and {pattern for _, pattern in all_routes} >= PAGE_ROUTES | OPEN
    browser = client(protected)
    for method, pattern in all_routes:
        found = browser.request(method, filled(pattern))
        if pattern in OPEN:
            assert "User and password are required." not in found.text
        else:
            assert (found.status_code == 401 and b"password are required" in found.content) or method == "HEAD", pattern
        assert "content-security-policy" in found.headers and "set-cookie" not in found.headers
    for path in ("/bokeh/static/js/bokeh.min.js", "/satseg/static/map.js", "/api/v1/static/swagger-ui.css", "/config"):
        assert browser.get(path).status_code == 401
    assert browser.get("/", headers={"Accept": "text/html"}).headers["location"] == "/login"
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect("/gradio_api/queue/join"):
        pass


def test_logging_in_gives_access_and_logging_out_revokes_it(protected: Starlette) -> None:
    browser = client(protected)
    form = browser.get("/login").text
    assert "password" in form and "<script" not in form and "gradio" not in form.lower()
    for user, password in (("me", "wrong"), ("", ""), ("me", ""), ("me:secret, wörd", "")):
        refused = browser.post("/login", data={"username": user, "password": password})
        assert refused.status_code == 401 and "wrong" in refused.text and "set-cookie" not in refused.headers
    assert browser.post("/login", content=b"x" * 10_000).status_code == 413
    entered = browser.post("/login", data={"username": AUTH[0], "password": AUTH[1]})
    cookie = entered.headers["set-cookie"].lower()
    assert entered.status_code == 303 and "httponly" in cookie and "samesite=lax" in cookie
    assert browser.get("/").status_code == 200 and "set-cookie" not in browser.get("/").headers
    assert browser.get("/bokeh/static/js/bokeh.min.js").status_code == 200
    assert browser.get("/api/v1/model").status_code == 200
    kept = dict(browser.cookies)
    assert browser.get("/logout").headers["location"] == "/login"
    browser.cookies.update(kept)
    assert browser.get("/api/v1/model").status_code == 401
    basic = client(protected)
    basic.auth = (AUTH[0].encode(), AUTH[1].encode())
    assert basic.get("/").status_code == 200 and len(basic.cookies) == 1


def test_only_the_gradio_routes_that_the_page_needs_are_reachable(local: Starlette) -> None:
    browser = client(local)
    browser.get("/")
    (gradio,) = (route for route in local.routes if isinstance(route, Mount) and route.path == "")
    for method, pattern in set(routes(gradio)):
        if pattern not in PAGE_ROUTES:
            found = browser.request(method, filled(pattern))
            assert found.status_code == 404, (method, pattern)
            assert (
                method == "HEAD" or found.json()["detail"] == "Not found; if the server was restarted, reload the page."
            ), (method, pattern)
    for path in ("/favicon.ico", "/theme.css", "/static/js/iframeResizer.contentWindow.min.js"):
        assert browser.get(path).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:7860"}, 421),
        ({"Host": "203.0.113.7"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": "proxy.example"}, 421),
        ({"Host": "evil.example@127.0.0.1"}, 421),
        ({"Host": "127.0.0.1#evil.example"}, 421),
        ({"Host": "127.0.0.1/evil.example"}, 421),
        ({"Host": "127.0.0.1?evil.example"}, 421),
        ({"Host": "127.0.0.1:80:80"}, 421),
        ({"Host": "127.0.0.1:65536"}, 421),
        ({"Host": "127.0.0.1:http"}, 421),
        ({"Host": "[::1]evil.example"}, 421),
        ({"Host": "[127.0.0.1]"}, 421),
        ({"Origin": "https://evil.example@maps.example.org"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8888"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "file://"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
    ],
)
def test_cross_site_requests_and_other_host_names_are_refused_on_every_route(
    local: Starlette, headers: dict[str, str], status: int
) -> None:
    other = client(local, **headers)
    for method, pattern in set(routes(local)):
        assert other.request(method, filled(pattern)).status_code == status, (method, pattern)
    with pytest.raises(WebSocketDisconnect) as refused, other.websocket_connect("/gradio_api/queue/join"):
        pass
    assert refused.value.code == 1008


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:7860", "Origin": "http://localhost:7860"},
        {"Host": "LOCALHOST"},
        {"Host": "[::1]:7860", "Sec-Fetch-Site": "same-origin"},
        {"Host": "maps.example.org", "Origin": "https://maps.example.org"},
        {"Host": "127.0.0.1:7860", "Origin": "https://maps.example.org", "Sec-Fetch-Site": "same-origin"},
        {"Host": "a.proxy.example", "Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
def test_requests_of_the_own_page_and_of_trusted_hosts_are_accepted(local: Starlette, headers: dict[str, str]) -> None:
    own = client(local, **headers)
    for path in ("/", "/healthz", "/api/v1/model", "/satseg/static/map.js"):
        assert own.get(path).status_code == 200
    navigated = headers.get("Sec-Fetch-Mode") == "navigate"
    assert own.post("/login").status_code == (403 if navigated else 404)


def test_a_public_server_accepts_any_host_name_but_no_cross_site_requests(public: Starlette) -> None:
    for host in ("203.0.113.7:7860", "maps.example.org"):
        assert client(public, Host=host, Origin=f"http://{host}").get("/").status_code == 200
        for origin in ("http://evil.example", "null"):
            other = client(public, Host=host, Origin=origin)
            statuses = {other.request(m, filled(p)).status_code for m, p in set(routes(public))}
            assert statuses == {403}


def test_a_public_server_with_trusted_hosts_accepts_no_other_names(make) -> None:  # type: ignore[no-untyped-def]
    named = make("host=0.0.0.0", "trusted_hosts=[maps.example.org]", with_page=False)
    for host, status in (("maps.example.org", 200), ("203.0.113.7:8000", 200), ("evil.example", 421)):
        assert client(named, Host=host).get("/healthz").status_code == status


def test_every_response_has_security_headers(local: Starlette) -> None:
    browser = client(local, Accept="text/html")
    for path in ("/", "/api/v1/docs", "/healthz", "/nowhere", "/api/v1/nowhere", "/satseg/static/map.js", "/theme.css"):
        headers = browser.get(path).headers
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
        assert "referrer-policy" in headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'" and policy["connect-src"] == "'self'"
        assert "unsafe-inline" not in policy["script-src"]
        assert ("unsafe-eval" in policy["script-src"]) == (path == "/")
        assert ("sha256-" in policy["script-src"]) == (path in ("/", "/api/v1/docs"))


def test_wrong_passwords_are_rate_limited_per_address(make) -> None:  # type: ignore[no-untyped-def]
    app = make(auth=AUTH)
    logged_in = client(app)
    assert logged_in.post("/login", data={"username": AUTH[0], "password": AUTH[1]}).status_code == 303
    right = (AUTH[0].encode(), AUTH[1].encode())
    statuses = []
    for i in range(15):
        statuses.append(client(app).get("/api/v1/model", auth=("me", f"{i}")).status_code)
        statuses.append(client(app).post("/login", data={"username": "me", "password": f"{i}"}).status_code)
    assert statuses == [401] * 20 + [429] * 10
    refused = client(app).get("/api/v1/model", auth=right)
    assert refused.status_code == 429 and 0 < int(refused.headers["retry-after"]) <= 61
    assert "content-security-policy" in refused.headers
    assert client(app).post("/login", data={"username": AUTH[0], "password": AUTH[1]}).status_code == 429
    assert client(app).get("/api/v1/model").status_code == 401 and client(app).get("/healthz").status_code == 200
    assert logged_in.get("/api/v1/model").status_code == 200
    other = TestClient(app, ADDRESS, client=("127.0.0.9", 50000))
    assert other.get("/api/v1/model", auth=right).status_code == 200
    for i in range(20):
        near = TestClient(app, ADDRESS, client=(f"2001:db8::{i:x}", 50000))
        assert near.get("/api/v1/model", auth=("me", "x")).status_code == 401
    for host, status in (("2001:db8::ffff:1", 429), ("2001:db8:0:1::1", 200)):
        assert TestClient(app, ADDRESS, client=(host, 50000)).get("/api/v1/model", auth=right).status_code == status


def test_internal_server_errors_have_security_headers(make, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from satseg.serve.api import routes as api

    def broken(served: object) -> None:
        raise RuntimeError("of the test")

    monkeypatch.setattr(api, "card", broken)
    asked = TestClient(make(), ADDRESS, raise_server_exceptions=False)
    found = asked.get("/api/v1/model")
    assert found.status_code == 500 and "of the test" not in found.text
    assert "frame-ancestors 'none'" in found.headers["content-security-policy"]
    assert found.headers["x-frame-options"] == "DENY" and found.headers["x-content-type-options"] == "nosniff"
