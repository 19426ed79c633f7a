"""What strangers are told: one sentence, without the server's paths and the command line's options."""

from __future__ import annotations

import re
from pathlib import Path

FAILED = "Something went wrong on the server; its log says what."
_PATH = r"(?<![\w:/.<])(?!/api/)(?:/[^\s:;,'\"()/]+)+/([^\s:;,'\"()/]+)"


_GO_ON = re.compile(r", or preflight=warn\b.*$")  # as the command says it


def sentence(text: str, folder: Path, name: str, *, go_on: str = "") -> str:
    """Return a message as a stranger may read it.

    Args:
        text: What satseg says.
        folder: Where the stranger's file lies; its path becomes the name.
        name: What the stranger calls the file.
        go_on: How the stranger has a file segmented that is refused as it is unlike those of the training.
    """
    text = re.sub(re.escape(str(folder)) + r"[^\s:;,']*", lambda _: name, " ".join(text.split()))
    is_unlike = _GO_ON.search(text) is not None
    text = re.sub(r"[:;,] (?:set|raise) \w+=.*$", ".", text)
    text = _GO_ON.sub(".", text)
    if is_unlike and go_on:
        text = f"{text.removesuffix('.')}; {go_on}."
    return re.sub(_PATH, r"\1", text)  # of what else lies on the server, the last part of the name
