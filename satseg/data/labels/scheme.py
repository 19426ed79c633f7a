"""Class schemes: the mapping of mask values or colours to classes, and reading masks with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from satseg.data.rasters.header import RasterInfo, Window, read_info
from satseg.data.rasters.raster import read_image
from satseg.errors import ConfigError, MaskValueError
from satseg.spec import IGNORE_INDEX, LARGEST_MASK_VALUE, MAX_MASK_VALUES, MaskValue

LARGEST_VALUE = LARGEST_MASK_VALUE  # larger ones would need a lookup table of gigabytes
BYTE_IN_16_BITS = 257  # 65535 / 255
REPAIR_HINT = (
    "Add the class to dataset.classes, map it in dataset.mask_values, name it in dataset.ignore_values, or repair the "
    "mask."
)
CHUNK_PIXELS = 2**17  # temporary arrays of this size fit the processor's cache

Colour = tuple[int, int, int]


class Lookup(NamedTuple):
    """Lookup tables from keys to classes.

    Attributes:
        low: The lowest key minus one.
        table: Class + 1 of each key from `low` on; 0 for no class.
        byte_table: Class + 1 of each uint8 key.
        identity_below: Keys below this equal the index of their class.
    """

    low: int
    table: np.ndarray
    byte_table: np.ndarray
    identity_below: int


@dataclass(frozen=True)
class ClassScheme:
    """Mapping of mask values or colours to classes.

    Attributes:
        names: Class names, by index.
        palette: Display colour of each class.
        values: Raw values, or colours packed as red·65536 + green·256 + blue, mapped to class index or IGNORE_INDEX.
        by_colour: Whether masks are colour-coded.
        threshold: For masks with blurred values: each channel, or grey, is 0 below it and 255 from it on. Not applied
            to palette images.
        from_polygons: Whether the masks are rasterized from polygons, so that their values are not the user's.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    values: Mapping[int, int]
    by_colour: bool = False
    threshold: int | None = None
    from_polygons: bool = False

    def __post_init__(self) -> None:
        for value in self.values:
            if abs(value) > LARGEST_VALUE:
                raise ConfigError(f"dataset.classes: value {value} is beyond ±{LARGEST_VALUE}; renumber the masks.")

    def read(self, path: Path, window: Window | None = None) -> np.ndarray:
        """Read a mask as class indices.

        Returns:
            uint8 array (height, width) of class indices and IGNORE_INDEX. Pixels outside the raster are ignored, and
            so are nodata and transparent pixels unless their value is that of a class.

        Raises:
            MaskValueError: If the mask holds values of no class; names the file and the values.
            RasterReadError: If the file cannot be read.
        """
        info = read_info(path)
        raw, valid = read_image(path, window)
        decoded = self.decode(raw, path, valid, info.palette)
        if window is not None:
            _ignore_outside(decoded, window, info)
        return decoded

    def decode(
        self,
        raw: np.ndarray,
        path: Path,
        valid: np.ndarray | None = None,
        palette: Mapping[int, Colour] | None = None,
    ) -> np.ndarray:
        """Map stored mask values to class indices.

        Args:
            raw: Mask as stored, (bands, height, width).
            path: The file, for the error.
            valid: Boolean (height, width); where it is False, values without a class are ignored.
            palette: The file's palette, if it has one.

        Returns:
            uint8 array (height, width) of class indices and IGNORE_INDEX.

        Raises:
            MaskValueError: If a valid pixel holds a value of no class.
        """
        is_rgb = self.by_colour and len(raw) >= 3
        lookup = self._lookup(expand=self.by_colour and not is_rgb, palette=palette)
        decoded = np.empty(raw.shape[1:], np.uint8)
        unknown: set[float] = set()
        step = max(1, CHUNK_PIXELS // max(1, raw.shape[2]))
        for top in range(0, raw.shape[1], step):
            rows = slice(top, top + step)
            stored = raw[:, rows]
            part = self.binarised(stored, palette)
            self.check_grey(part, path)
            keys = pack(part) if is_rgb else part[0]
            labelled = None if valid is None else valid[rows]
            unknown |= _write_classes(keys, lookup, decoded[rows], labelled)
            if labelled is not None and part is not stored:  # nodata is no label, whatever the threshold makes of it
                decoded[rows][~labelled & (part != stored).any(0)] = IGNORE_INDEX
        if unknown:
            self._raise_unknown(unknown, None if is_rgb or not self.by_colour else palette or {}, path)
        return decoded

    def check_grey(self, raw: np.ndarray, path: Path | str) -> None:
        """Check that pixels (bands, height, width) are grey if classes are given by value.

        Raises:
            MaskValueError: Names the file and what to do.
        """
        if not self.by_colour and len(raw) > 1 and not (raw == raw[:1]).all():
            grey = (
                ", or dataset.mask_threshold=128, if they are meant to be grey"
                if self.values.keys() <= {0, 255}
                else ""
            )
            raise MaskValueError(
                f"{path} has {len(raw)} bands that differ, but the classes are given by value: give colours in "
                f"dataset.classes, such as water: [0, 0, 255]{grey}."
            )

    def binarised(self, raw: np.ndarray, palette: Mapping[int, Colour] | None) -> np.ndarray:
        """Return raw values with each channel set to 0 or 255, if there is a threshold and no palette."""
        if self.threshold is None or palette:
            return raw
        return np.where(raw < self.threshold, np.uint8(0), np.uint8(255))

    def _lookup(self, expand: bool, palette: Mapping[int, Colour] | None) -> Lookup:
        """Return the lookup of values or packed colours or, with `expand`, of palette indices or grey values."""
        if not expand:
            return _table(tuple(sorted(self.values.items())))
        packed = {v: _packed(_expand(v, palette or {})) for v in range(256)}
        return _table(tuple((v, self.values[key]) for v, key in packed.items() if key in self.values))

    def _raise_unknown(self, unknown: Iterable[float], palette: Mapping[int, Colour] | None, path: Path) -> None:
        found = sorted(unknown)
        shown = [str(_expand(int(v), palette)) if palette is not None else self.show(v) for v in found[:5]]
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        known = [self.show(v) for v in sorted(self.values)[:20]]
        known += ["…"] if len(self.values) > 20 else []
        raise MaskValueError(
            f"{path} holds {'colour' if self.by_colour else 'value'} {', '.join(shown)}{more}, but the dataset has "
            f"{len(self.names)} classes, and only {', '.join(known)} are classes or ignored. {REPAIR_HINT}"
        )

    def mask_values(self) -> tuple[tuple[MaskValue, ...], ...] | None:
        """Return the mask values of each class as recorded in `DatasetSpec`; grey colours become numbers."""
        if self.from_polygons:
            return None
        keys = [[key for key, number in self.values.items() if number == index] for index in range(len(self.names))]
        kept = [own[:MAX_MASK_VALUES] for own in keys]
        if not self.by_colour:
            return tuple(map(tuple, kept))
        colours = [[_unpacked(key) for key in own] for own in kept]
        if all(len(set(colour)) == 1 for own in colours for colour in own):
            return tuple(tuple(colour[0] for colour in own) for own in colours)
        return tuple(map(tuple, colours))

    def show(self, value: float) -> str:
        """Return a value, or a packed colour, as text."""
        if self.by_colour:
            return str((int(value) >> 16, int(value) >> 8 & 255, int(value) & 255)) if value >= 0 else "beyond 8 bits"
        return f"{value:g}" if value != int(value) else str(int(value))


@lru_cache(maxsize=16)
def _table(classes: tuple[tuple[int, int], ...]) -> Lookup:
    """Return the lookup of classes, from the lowest key minus one to the highest key plus one."""
    low, high = (classes[0][0], classes[-1][0]) if classes else (0, 0)
    table = np.zeros(high - low + 3, np.uint16)  # zero pages take memory only when written to
    for key, index in classes:
        table[key - low + 1] = index + 1
    byte_table = _codes(np.arange(256, dtype=np.uint8), low - 1, table)
    differs = byte_table != np.arange(1, 257)
    return Lookup(low - 1, table, byte_table, int(differs.argmax()) if differs.any() else 256)


def _write_classes(keys: np.ndarray, lookup: Lookup, out: np.ndarray, valid: np.ndarray | None) -> set[float]:
    """Write the classes of keys to `out`, and return the valid keys of no class."""
    is_byte = keys.dtype == np.uint8
    if is_byte and keys.size and keys.max() < lookup.identity_below:  # most masks hold class indices
        out[:] = keys
        return set()
    codes = lookup.byte_table.take(keys) if is_byte else _codes(keys, lookup.low, lookup.table)
    np.subtract(codes, 1, out=out, casting="unsafe")  # 0 (no class) becomes 255
    if codes.all():
        return set()
    wrong = codes == 0
    if valid is not None:
        wrong &= valid
    if np.issubdtype(keys.dtype, np.floating):
        wrong &= np.isfinite(keys)
    return set(np.unique(keys[wrong]).tolist())


def _codes(keys: np.ndarray, low: int, table: np.ndarray) -> np.ndarray:
    """Return class + 1 of each key; 0 for no class."""
    places = _to_integers(keys)
    places -= low
    np.clip(places, 0, len(table) - 1, out=places)
    return table.take(places)


def _to_integers(keys: np.ndarray) -> np.ndarray:
    """Return keys as int64; fractions and numbers out of range become a value outside every scheme."""
    unmatched = LARGEST_VALUE + 1
    if np.issubdtype(keys.dtype, np.floating):
        whole = np.isfinite(keys) & (np.abs(keys) < unmatched) & (keys == np.rint(keys))
        keys = np.where(whole, keys, unmatched)
    elif keys.dtype == np.uint64:
        keys = np.minimum(keys, np.uint64(unmatched))
    elif keys.dtype == np.int64:
        keys = np.clip(keys, -unmatched, unmatched)
    integers: np.ndarray = keys.astype(np.int64)
    return integers


def _ignore_outside(decoded: np.ndarray, window: Window, info: RasterInfo) -> None:
    rows = np.arange(window.row, window.row + window.height)
    cols = np.arange(window.col, window.col + window.width)
    decoded[(rows < 0) | (rows >= info.height)] = IGNORE_INDEX
    decoded[:, (cols < 0) | (cols >= info.width)] = IGNORE_INDEX


def pack(colours: np.ndarray) -> np.ndarray:
    """Pack colours (3 or more, height, width) into int32 (height, width); -1 where a colour is not of 8 bits.

    16-bit images may store 8-bit values as they are, or scaled to 65535. Fractions, such as colours from 0 to 1, do not
    count.
    """
    colours = colours[:3]
    if colours.dtype == np.uint8:
        return _pack(colours)
    wide = colours > 255
    fits = (colours >= 0) & (colours <= 65_535) & (colours % 1 == 0) & (~wide | (colours % BYTE_IN_16_BITS == 0))
    packed = _pack(np.where(fits, np.where(wide, colours // BYTE_IN_16_BITS, colours), 0))
    packed[~fits.all(0)] = -1
    return packed


def _pack(colours: np.ndarray) -> np.ndarray:
    red, green, blue = colours[0].astype(np.int32), colours[1], colours[2]
    packed: np.ndarray = (red << 16) | (green.astype(np.int32) << 8) | blue.astype(np.int32)
    return packed


def _expand(value: int, palette: Mapping[int, Colour]) -> Colour:
    return palette.get(value, (value, value, value))


def _unpacked(key: int) -> Colour:
    return key >> 16, key >> 8 & 255, key & 255


def _packed(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
