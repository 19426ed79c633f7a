"""File access of the app: visitors reach only their own uploads and results, and the examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from browser_visitor import Assets, Server
from gradio_visitor import API, Visitor, paths_in

pytestmark = pytest.mark.slow
REFUSED = {
    "status": 404,
    "title": "Not Found",
    "detail": "Not found; if the server was restarted, reload the page.",
}


@pytest.fixture
def private_file(tmp_path: Path) -> Path:
    """Write an image on the server that nobody uploaded."""
    path = tmp_path / "elsewhere.tif"
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8") as file:
        file.write(np.full((3, 64, 64), 97, np.uint8))
    return path


def file_references(path: str) -> Iterator[Any]:
    """Yield every form that Gradio could accept as a file at a path."""
    meta = {"_type": "gradio.FileData"}
    yield {"path": path, "meta": meta}
    yield {"path": path}
    yield {"path": None, "url": f"{API}/file={path}", "meta": meta}
    yield {"path": path, "url": path, "is_stream": True, "meta": meta}
    yield [{"path": path, "meta": meta}]
    yield {"image": {"path": path, "meta": meta}, "caption": None}
    yield [[{"path": path, "meta": meta}, None]]
    yield {"value": {"path": path, "meta": meta}, "__type__": "update"}


def test_uploads_and_results_are_private_to_their_visitor(server: Server, assets: Assets) -> None:
    owner, other = Visitor(server.address), Visitor(server.address)
    name = owner.upload(assets.rgb_image.read_bytes(), "photo.png")
    assert not name.startswith("/") and str(server.temporary) not in name
    shown = {path for path in paths_in(owner.segment(name)) if "visitors" in path}
    assert len(shown) >= 3  # the map over the image, the image, the confidence
    for path in shown:
        assert owner.get(path).headers["content-type"] == "image/png"
        found = other.get(path)
        assert (found.status_code, found.json()) == (404, REFUSED)
    assert owner.get(name).content == assets.rgb_image.read_bytes() and other.get(name).status_code == 404
    assert other.client.get(f"{API}/file={name}", headers={"Cookie": "satseg_0=x"}).status_code == 404
    # The other visitor sends the same session name, but has a separate session.
    files = next(e for e in owner.events.values() if len(e["outputs"]) == 7 and not e["inputs"])
    assert not paths_in(other.send(files, [])) and len(paths_in(owner.send(files, []))) >= 3
    examples = {path for path in paths_in(other.send(other.event_of_load(), [])) if "/examples/" in path}
    assert examples and all(visitor.get(path).status_code == 200 for path in examples for visitor in (owner, other))


def test_all_other_file_names_get_the_same_404_response(server: Server, assets: Assets, private_file: Path) -> None:
    visitor, other = Visitor(server.address), Visitor(server.address)
    content = assets.rgb_image.read_bytes()
    own, others = visitor.upload(content, "own.png"), other.upload(content, "photo.png")
    (uploads,) = server.temporary.glob("satseg-*/gradio")
    linked = visitor.upload(content[:-1], "linked.png")
    on_disk = uploads / linked.partition("/")[2]
    on_disk.unlink()
    on_disk.symlink_to(private_file)
    inside = own.partition("/")[2]
    named = [
        str(private_file),
        f"{private_file}.is_not_there",
        str(uploads / inside),
        others,
        linked,
        inside,
        f"{'0' * 32}/{inside}",
        f"{own.partition('/')[0]}/../{private_file}",
        f"{own}/../../{private_file}",
        f"file://{private_file}",
        f"{server.address}/favicon.ico",
        "",
    ]
    before, log = server.files(), (server.temporary / "log").read_text()
    for name in named:
        for event in visitor.events.values():
            ways = file_references(name) if event["inputs"] else ()
            for way in list(ways) if name == str(private_file) else list(ways)[:1]:
                for place in range(len(event["inputs"])):
                    data = visitor.values(event)
                    data[place] = way
                    for path in ("queue/join", "run/predict"):
                        found = visitor.post_event(event, data, path)
                        assert (found.status_code, found.json()) == (404, REFUSED), (name, way, place, path)
        found = visitor.get(name)
        assert (found.status_code, found.json()) == (404, REFUSED)
    assert server.files() <= before and (server.temporary / "log").read_text() == log
    for more in (
        {"session_hash": None},
        {"session_hash": "../x"},
        {"session_hash": ["x"]},
        {"fn_index": {"path": own}},
    ):
        assert visitor.post_event(visitor.event("upload", "upload"), [], **more).json() == REFUSED
    assert "areas" in visitor.segment(own)  # the visitor's own upload is accepted in the same form


def test_files_in_event_data_are_ignored(server: Server, private_file: Path) -> None:
    visitor = Visitor(server.address)
    event = visitor.event("examples", "select")
    happened = {"index": 0, "value": {"image": {"path": str(private_file), "meta": {"_type": "gradio.FileData"}}}}
    text = visitor.send(event, visitor.values(event), event_data=happened)
    assert "areas" in text and str(private_file) not in text


def test_requests_without_a_valid_cookie_get_404(server: Server) -> None:
    known = Visitor(server.address)
    (name,) = known.client.cookies
    value = known.client.cookies[name]
    token, _, signature = value.partition(".")
    for forged in (None, "", token, f"{token}.", f"{'0' * 32}.{signature}", f"{token}.{'0' * 32}", "ä.ö"):
        headers = {"Cookie": f"{name}={forged}".encode()} if forged is not None else {}
        visitor = Visitor(server.address)
        visitor.client.cookies.clear()
        visitor.client.headers.update(headers)
        found = visitor.client.post(f"{API}/upload", files={"files": ("x.png", b"x")})
        assert (found.status_code, found.json()) == (404, REFUSED)
        assert visitor.post_event(visitor.event("upload", "upload"), []).json() == REFUSED
        assert visitor.client.get(f"{API}/queue/data?session_hash={known.session}").json() == REFUSED
        assert visitor.client.get(f"{API}/heartbeat/{known.session}").json() == REFUSED


def stored_uploads(server: Server) -> list[Path]:
    return [path for path in server.temporary.glob("satseg-*/gradio/**/*") if path.is_file()]


@pytest.mark.parametrize(
    "form",
    [
        [("files", ("a.png", b"a")), ("files", ("b.png", b"b"))],
        [("other", ("a.png", b"a"))],
        [("files", ("a.png", b"a")), ("other", (None, b"x" * 100_000))],
        [("other", (None, b"x" * 100_000)), ("files", ("a.png", b"a"))],
        [("files", ("a.png", bytes(21_000_000)))],
    ],
    ids=["two files", "other field", "text after", "text before", "too large"],
)
def test_an_upload_must_be_one_file_of_the_allowed_size(server: Server, form: list[tuple[str, Any]]) -> None:
    visitor, before = Visitor(server.address), set(stored_uploads(server))
    found = visitor.client.post(f"{API}/upload", files=form)
    assert found.status_code == (413 if len(form[0][1][1] or b"") > 20_000_000 else 400)
    assert set(stored_uploads(server)) == before


def test_stored_uploads_are_limited_and_sessions_do_not_need_them_later(server: Server, assets: Assets) -> None:
    visitor, other = Visitor(server.address), Visitor(server.address, "klmnopqrst")
    first = visitor.upload(assets.rgb_image.read_bytes(), "photo.png")
    assert "areas" in visitor.segment(first)
    for number in range(11):  # more than the limit of ten files of 20 MB
        name = other.upload(bytes([number]) * 19_900_000, f"{number}.png")
        assert sum(path.stat().st_size for path in stored_uploads(server)) <= 10 * 20_000_000
    assert visitor.get(first).status_code == 403 and other.get(name).status_code == 200
    files = next(e for e in visitor.events.values() if len(e["outputs"]) == 7 and not e["inputs"])
    assert len(paths_in(visitor.send(files, []))) >= 3  # created from the files of the session
    assert "no longer exists" in visitor.segment(first)


def test_invalid_events_get_404_and_leave_no_traceback(server: Server) -> None:
    visitor = Visitor(server.address)
    event, log = visitor.event("upload", "upload"), (server.temporary / "log").read_text()
    for number in (999, -1, None, "0", True, [0]):
        for path in ("queue/join", "run/predict"):
            found = visitor.post_event(event, [], path, fn_index=number)
            assert (found.status_code, found.json()) == (404, REFUSED), (number, path)
    for value in ("NaN", "1e400", '"\\ud800"'):
        body = f'{{"fn_index": {event["id"]}, "session_hash": "{visitor.session}", "data": [{value}]}}'
        found = visitor.client.post(f"{API}/queue/join", content=body)
        assert (found.status_code, found.json()) == (404, REFUSED), value
    assert (server.temporary / "log").read_text() == log


def test_values_of_a_wrong_type_get_404_and_leave_no_traceback(server: Server, assets: Assets) -> None:
    visitor = Visitor(server.address)
    file = {"path": visitor.upload(assets.rgb_image.read_bytes(), "own.png"), "meta": {"_type": "gradio.FileData"}}
    log = (server.temporary / "log").read_text()
    foreign: dict[str, list[Any]] = {
        "file": ["a text", "", 1, 0.5, True, [], ["a text"], [None], {}, {"path": None}, [file]],
        "dropdown": [[], ["a"], 0.5, True, file],
        "checkboxgroup": [None, "a", 1, [1], [None], file],
        "slider": [None, "1", [1], True, -1, 1e9, file],
    }
    kinds = set()
    for event in visitor.events.values():
        values = [visitor.values(event), visitor.values(event)[:-1], [*visitor.values(event), None]]
        refused = values[1:] if event["inputs"] else values[2:]
        for place, part in enumerate(event["inputs"]):
            kind = next(c["type"] for c in visitor.config["components"] if c["id"] == part)
            kinds.add(kind)
            refused += [[*values[0][:place], value, *values[0][place + 1 :]] for value in foreign[kind]]
        for data in refused:
            for path in ("queue/join", "run/predict"):
                found = visitor.post_event(event, data, path, event_data={"index": 0, "value": None})
                assert (found.status_code, found.json()) == (404, REFUSED), (event["targets"], data, path)
    assert kinds == set(foreign)
    example = visitor.event("examples", "select")
    for happened in (None, {}, {"index": None}, {"index": "0"}, {"index": [0]}, {"index": True}):
        found = visitor.post_event(example, visitor.values(example), event_data=happened)
        assert (found.status_code, found.json()) == (404, REFUSED), happened
    for index in (-1, 99):
        visitor.send(example, visitor.values(example), event_data={"index": index, "value": None})
    for kind, event in (("model", "input"), ("target", "input"), ("ask", "click"), ("classes", "input")):
        asked = visitor.event(kind, event)  # with a value that no menu offers
        chosen = [["unknown"] if isinstance(value, list) else "unknown" for value in visitor.values(asked)]
        chosen = [50 if part == visitor.part("opacity") else c for part, c in zip(asked["inputs"], chosen, strict=True)]
        assert '"success": false' in visitor.send(asked, chosen)
    assert (server.temporary / "log").read_text() == log
    assert "areas" in visitor.segment(file["path"])
