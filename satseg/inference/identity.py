"""What tells a scene from another one, and from itself after a change."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from satseg.inference.reading import SceneSource

STATISTICS = ".aux.xml"  # written beside a raster by whoever looks at it
MASK = ".msk"  # lies beside a raster; behind a VRT it is in no list


def scene_identity(scene: SceneSource) -> dict[str, Any]:
    """Return the sizes and times of change of a scene's files, those behind a VRT too, as plain data.

    Of what lies on a server nothing tells whether it has changed but its pixels: a sample of them is hashed.
    """
    with scene.open() as reader:
        names = [str(scene.info.path), *(name for name in reader.stored.files if not name.endswith(STATISTICS))]
        masks = [name for name in (f"{name}{MASK}" for name in names) if Path(name).exists()]
        states = {name: _state(Path(name)) for name in (*names, *masks)}
        identity: dict[str, Any] = {"files": {name: state for name, state in states.items() if state}}
        if None in states.values():
            identity["pixels"] = hashlib.sha256(reader.sample().tobytes()).hexdigest()
    return identity


def _state(path: Path) -> list[int] | None:
    try:
        state = path.stat()
    except OSError:  # behind a URL, or in an archive
        return None
    return [state.st_size, state.st_mtime_ns]
