"""What an event of the page may hold: as many values as it has parts, each of the kind that its part has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

SELECTED = {gr.Gallery: 1, gr.Image: 2}  # numbers that say what was selected: which picture, or column and row


@dataclass(frozen=True)
class Event:
    """An event that the page has.

    Attributes:
        parts: Whose values come with it, in this order.
        place: How many numbers say what was selected; 0 where nothing is.
    """

    parts: tuple[Any, ...]
    place: int = 0

    def has_selection(self, happened: Mapping[str, Any] | None) -> bool:
        """Tell whether what happened says what was selected, if that must be known."""
        index = (happened or {}).get("index")
        if self.place == 1:
            return type(index) is int
        return not self.place or (isinstance(index, list) and [type(n) for n in index] == [int] * self.place)


def events_of(blocks: gr.Blocks) -> dict[int, Event]:
    """Return all events of a page that the server answers, by number."""
    found = {}
    for number, function in blocks.fns.items():
        if function.fn is None:  # a script in the browser alone
            continue
        selected = [blocks.blocks[part] for part, name in function.targets if name == "select" and part is not None]
        place = max((SELECTED.get(type(part), 0) for part in selected), default=0)
        found[number] = Event(tuple(function.inputs), place)
    return found


def is_file(part: Any) -> bool:
    """Tell whether a part's values are files."""
    return isinstance(part, gr.File)


def fits(part: Any, value: object) -> bool:
    """Tell whether a value is one that a part of the page, no file, can have in a browser."""
    if isinstance(part, gr.Slider):
        return type(value) in (int, float) and part.minimum <= value <= part.maximum
    if isinstance(part, gr.CheckboxGroup):
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if isinstance(part, gr.Dropdown):
        return type(value) in (str, int) or (value is None and part.value is None)
    return False
