"""A client of the app without a browser, which sends Gradio the requests of a page or of an attacker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx

API = "/gradio_api"


class Visitor:
    """One browser, with its cookies and one page open.

    Args:
        address: Of the app.
        session: Name of its Gradio session.
    """

    def __init__(self, address: str, session: str = "abcdefghij") -> None:
        self.client = httpx.Client(base_url=address, timeout=120)
        self.session = session
        document = self.client.get("/").text
        self.config = json.loads(re.findall(r"window\.gradio_config = (\{.*?\});</script>", document)[0])
        self.events = {event["id"]: event for event in self.config["dependencies"]}

    def part(self, elem_id: str) -> int:
        """Return the id of a component of the page."""
        return next(c["id"] for c in self.config["components"] if c["props"].get("elem_id") == elem_id)

    def event(self, elem_id: str, kind: str) -> dict[str, Any]:
        """Return the event that Gradio triggers for an action on a component."""
        wanted = [self.part(elem_id), kind]
        return next(event for event in self.events.values() if wanted in event["targets"])

    def event_of_load(self) -> dict[str, Any]:
        """Return the event that Gradio triggers when the page is opened."""
        return next(event for event in self.events.values() if any(kind == "load" for _, kind in event["targets"]))

    def values(self, event: dict[str, Any]) -> list[Any]:
        """Return the initial values that the page sends with an event."""
        shown = {c["id"]: c["props"].get("value") for c in self.config["components"]}
        return [shown[number] for number in event["inputs"]]

    def upload(self, content: bytes, name: str) -> str:
        """Upload a file; return the name that the app gives it."""
        found = self.client.post(f"{API}/upload", files={"files": (name, content)})
        assert found.status_code == 200, found.text
        (given,) = found.json()
        return str(given)

    def post_event(
        self, event: dict[str, Any], data: list[Any], path: str = "queue/join", **more: Any
    ) -> httpx.Response:
        """Send an event; return the immediate response."""
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session, "event_data": None, **more}
        return self.client.post(f"{API}/{path}", json=body)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield the messages of the app about events of this page until they end."""
        with self.client.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    message = json.loads(line[6:])
                    yield message
                    if message["msg"] in ("close_stream", "unexpected_error"):
                        return

    def send(self, event: dict[str, Any], data: list[Any], **more: Any) -> str:
        """Send an event; return all resulting messages as JSON."""
        response = self.post_event(event, data, **more)
        assert response.status_code == 200, response.text
        return json.dumps(list(self.messages()))

    def segment(self, name: str) -> str:
        """Have an uploaded image segmented; return all resulting messages as JSON."""
        event = self.event("upload", "upload")
        return self.send(event, [{"path": name, "meta": {"_type": "gradio.FileData"}}, *self.values(event)[1:]])

    def get(self, path: str) -> httpx.Response:
        """Request a file from the app."""
        return self.client.get(f"{API}/file={path}")


def paths_in(messages: str) -> set[str]:
    """Return the paths of files in messages of the app."""
    return set(re.findall(r'"path": "([^"]+)"', messages))
