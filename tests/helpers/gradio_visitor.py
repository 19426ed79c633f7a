"""A visitor of the app without a browser: says to Gradio what a page says, or what an attacker would."""

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
        session: What its page calls its session.
    """

    def __init__(self, address: str, session: str = "abcdefghij") -> None:
        self.client = httpx.Client(base_url=address, timeout=120)
        self.session = session
        document = self.client.get("/").text
        self.config = json.loads(re.findall(r"window\.gradio_config = (\{.*?\});</script>", document)[0])
        self.events = {event["id"]: event for event in self.config["dependencies"]}

    def part(self, elem_id: str) -> int:
        """Return the number of a part of the page."""
        return next(c["id"] for c in self.config["components"] if c["props"].get("elem_id") == elem_id)

    def event(self, elem_id: str, kind: str) -> dict[str, Any]:
        """Return what happens when something is done with a part of the page."""
        wanted = [self.part(elem_id), kind]
        return next(event for event in self.events.values() if wanted in event["targets"])

    def event_of_load(self) -> dict[str, Any]:
        """Return what happens when the page is opened."""
        return next(event for event in self.events.values() if any(kind == "load" for _, kind in event["targets"]))

    def values(self, event: dict[str, Any]) -> list[Any]:
        """Return what the page would send with an event when nothing was changed."""
        shown = {c["id"]: c["props"].get("value") for c in self.config["components"]}
        return [shown[number] for number in event["inputs"]]

    def upload(self, content: bytes, name: str) -> str:
        """Give the app a file; return what it is called from then on."""
        found = self.client.post(f"{API}/upload", files={"files": (name, content)})
        assert found.status_code == 200, found.text
        (given,) = found.json()
        return str(given)

    def say(self, event: dict[str, Any], data: list[Any], path: str = "queue/join", **more: Any) -> httpx.Response:
        """Tell of an event."""
        body = {"data": data, "fn_index": event["id"], "session_hash": self.session, "event_data": None, **more}
        return self.client.post(f"{API}/{path}", json=body)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what the app says of this page's events until they are over."""
        with self.client.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    message = json.loads(line[6:])
                    yield message
                    if message["msg"] in ("close_stream", "unexpected_error"):
                        return

    def told(self, event: dict[str, Any], data: list[Any], **more: Any) -> str:
        """Tell of an event; return all that comes of it."""
        said = self.say(event, data, **more)
        assert said.status_code == 200, said.text
        return json.dumps(list(self.messages()))

    def segment(self, name: str) -> str:
        """Have an uploaded image segmented; return all that the app says."""
        event = self.event("upload", "upload")
        return self.told(event, [{"path": name, "meta": {"_type": "gradio.FileData"}}, *self.values(event)[1:]])

    def get(self, path: str) -> httpx.Response:
        """Ask for a file that the app may show."""
        return self.client.get(f"{API}/file={path}")


def paths_in(told: str) -> set[str]:
    """Return the files of the server that an answer speaks of."""
    return set(re.findall(r'"path": "([^"]+)"', told))
