"""What strangers are told: one sentence, without the server's paths and the command line's options."""

from __future__ import annotations

import re
from pathlib import Path

FAILED = "Something went wrong on the server; its log says what."
_PATH = r"(?<![\w:/.<])(?!/api/)(?:/[^\s:;,'\"()/]+)+/([^\s:;,'\"()/]+)"


def sentence(text: str, folder: Path, name: str) -> str:
    """Return a message as a stranger may read it.

    Args:
        text: What satseg says.
        folder: Where the stranger's file lies; its path becomes the name.
        name: What the stranger calls the file.
    """
    text = re.sub(re.escape(str(folder)) + r"[^\s:;,']*", lambda _: name, " ".join(text.split()))
    text = re.sub(r"[:;,] (?:set|raise) \w+=.*$", ".", text)
    return re.sub(_PATH, r"\1", text)  # of what else lies on the server, the last part of the name
