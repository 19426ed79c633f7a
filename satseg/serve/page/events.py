"""Validation of page events: one value per input component, of the component's type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

SELECTED = {gr.Gallery: 1, gr.Image: 2}  # indices of a selection: image number, or column and row


@dataclass(frozen=True)
class Event:
    """An event of the page.

    Attributes:
        parts: Input components, in order.
        num_indices: Number of indices that identify the selection; 0 without one.
    """

    parts: tuple[Any, ...]
    num_indices: int = 0

    def has_selection(self, event_data: Mapping[str, Any] | None) -> bool:
        """Return whether event data identify the selection, if the event needs one."""
        index = (event_data or {}).get("index")
        if self.num_indices == 1:
            return type(index) is int
        count = self.num_indices
        return not count or (isinstance(index, list) and [type(n) for n in index] == [int] * count)


def events_of(blocks: gr.Blocks) -> dict[int, Event]:
    """Return the events of a page that the server handles, by number."""
    found = {}
    for number, function in blocks.fns.items():
        if function.fn is None:  # runs in the browser only
            continue
        selected = [blocks.blocks[part] for part, name in function.targets if name == "select" and part is not None]
        num_indices = max((SELECTED.get(type(part), 0) for part in selected), default=0)
        found[number] = Event(tuple(function.inputs), num_indices)
    return found


def is_file(part: Any) -> bool:
    """Return whether a component's values are files."""
    return isinstance(part, gr.File)


def fits(part: Any, value: object) -> bool:
    """Return whether a value is one that a component without files can have in a browser."""
    if isinstance(part, gr.Slider):
        return type(value) in (int, float) and part.minimum <= value <= part.maximum
    if isinstance(part, gr.CheckboxGroup):
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if isinstance(part, gr.Dropdown):
        return type(value) in (str, int) or (value is None and part.value is None)
    return False
