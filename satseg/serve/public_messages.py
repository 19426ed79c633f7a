"""Error messages for clients: one sentence, without the server's paths or command-line options."""

from __future__ import annotations

import re
from pathlib import Path

FAILED = "Something went wrong on the server; see its log."
_PATH = r"(?<![\w:/.<])(?!/api/)(?:/[^\s:;,'\"()/]+)+/([^\s:;,'\"()/]+)"


_OVERRIDE = re.compile(r", or preflight=warn\b.*$")  # the command-line hint


def public_message(text: str, folder: Path, name: str, *, override_hint: str = "") -> str:
    """Return an error message that is fit for clients.

    Args:
        text: The original message.
        folder: Folder of the client's file; paths in it are replaced by the name.
        name: The client's name for the file.
        override_hint: How the client can have an image segmented in spite of a preflight error.
    """
    text = re.sub(re.escape(str(folder)) + r"[^\s:;,']*", lambda _: name, " ".join(text.split()))
    is_unlike = _OVERRIDE.search(text) is not None
    text = re.sub(r"[:;,] (?:set|raise) \w+=.*$", ".", text)
    text = _OVERRIDE.sub(".", text)
    if is_unlike and override_hint:
        text = f"{text.removesuffix('.')}; {override_hint}."
    return re.sub(_PATH, r"\1", text)  # other paths are reduced to the file name
