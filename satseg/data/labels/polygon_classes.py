"""Classes of polygons by an attribute, and the class outside all polygons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satseg.data.labels.discovery import IGNORE, display_colour
from satseg.data.labels.scheme import Colour
from satseg.data.labels.vectors import VectorLayer, as_text
from satseg.data.rasters.names import natural_key
from satseg.errors import ConfigError, DataError, MaskValueError
from satseg.spec import IGNORE_INDEX


@dataclass(frozen=True)
class PolygonClasses:
    """Classes of polygons.

    Attributes:
        names: Class names, by index.
        palette: Display colour of each class.
        attribute: Name of the class attribute; None if all polygons are of one class.
        values: Attribute values as text (empty without an attribute), mapped to class index or IGNORE_INDEX.
        outside: Class index, or IGNORE_INDEX, of pixels in no polygon.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    attribute: str | None
    values: Mapping[str, int]
    outside: int

    def numbers(self, texts: Sequence[str], path: Path) -> list[int]:
        """Return the class index of each polygon.

        Args:
            texts: Attribute values of the polygons.
            path: Their file, for the error.

        Raises:
            MaskValueError: If any value is of no class; names them.
        """
        unknown = sorted(set(texts) - self.values.keys(), key=natural_key)
        if unknown:
            shown = ", ".join(text or "empty" for text in unknown[:5]) + (", …" if len(unknown) > 5 else "")
            raise MaskValueError(
                f"{path} holds polygons whose {self.attribute} is {shown}, but the classes are "
                f"{', '.join(self.names)}. Add it to dataset.classes, map it in dataset.mask_values, or ignore it by "
                f'"dataset.ignore_values={unknown[:5]}"{" (two quotes are the empty value)" if "" in unknown else ""}.'
            )
        return [self.values[text] for text in texts]

    def describe(self, files: Sequence[Path]) -> str:
        """Return a sentence about the classes found in files, and how to name them."""
        listed = f"{len(self.names)} classes: {', '.join(self.names)}"
        if self.attribute is not None:
            return f"{listed} (dataset.classes names them)"
        inside = self.names[self.values[""]]
        after = f" after {files[0].name}" if len(files) == 1 else ""
        named = ",".join("NAME" if name == inside else name for name in self.names)
        return (
            f"{listed}; all polygons are of one class, named {inside}{after}: dataset.classes=[{named}] gives it "
            "another name, and dataset.vectors.attribute names the attribute that distinguishes several classes"
        )


@dataclass(frozen=True)
class ClassOptions:
    """Class options of a dataset with polygons; see `FolderDataModule`.

    Attributes:
        attribute: Option `dataset.vectors.attribute`.
        outside: Option `dataset.vectors.outside`.
        classes: Names, or by name a value, a list of values, or `{value: …, color: …}`; discovered by default.
        mask_values: Further values, each with the name of its class or `ignore`.
        ignore_values: Values that are no class.
    """

    attribute: str | None = None
    outside: str | None = None
    classes: Sequence[str] | Mapping[str, Any] | None = None
    mask_values: Mapping[Any, str] | None = None
    ignore_values: Sequence[Any] | None = None

    def texts(self, layer: VectorLayer) -> list[str]:
        """Return the distinct values of a layer's attribute; one empty text if all polygons are of one class.

        Raises:
            SatsegError: As `VectorLayer.texts`.
        """
        return [""] if self.attribute is None else layer.texts(self.attribute)

    def find(self, layers: Sequence[VectorLayer], texts: Iterable[str]) -> PolygonClasses:
        """Determine the classes of layers.

        Args:
            layers: The layers.
            texts: All values of the attribute.

        Raises:
            ConfigError: If an option is missing, or names an unknown class.
            DataError: If there are fewer than two classes.
        """
        if self.outside is None:
            raise ConfigError(
                "dataset.vectors.outside: give the class of pixels in no polygon: a name, such as background, or "
                f"{IGNORE}."
            )
        if self.attribute is None:
            return self._of_one_class(layers)
        names = self._names(texts)
        return self._build(names, self._values(names))

    def _of_one_class(self, layers: Sequence[VectorLayer]) -> PolygonClasses:
        inner = layers[0].path.stem if len(layers) == 1 else "object"
        names = [str(name) for name in self.classes] if self.classes else [str(self.outside), inner]
        inside = [name for name in names if name != self.outside]
        if len(names) != 2 or len(inside) != 1:
            there = ", ".join(layers[0].attributes) or "no attribute"
            raise ConfigError(
                f"dataset.vectors.attribute: name the one that holds the classes; {layers[0].path} has {there}."
            )
        return self._build(names, {"": names.index(inside[0])})

    def _names(self, found: Iterable[str]) -> list[str]:
        if self.classes is not None:
            return [str(name) for name in self.classes]
        taken = {as_text(value) for value in [*(self.mask_values or ()), *(self.ignore_values or ())]}
        names = sorted({text for text in found if text} - taken, key=natural_key)
        return names if self.outside in (IGNORE, *names) else [str(self.outside), *names]

    def _values(self, names: Sequence[str]) -> dict[str, int]:
        given = self.classes if isinstance(self.classes, Mapping) else dict.fromkeys(names)
        values: dict[str, int] = {}
        for index, (name, value) in enumerate(given.items()):
            for text in _texts(str(name), value):
                _add(values, text, index, f"dataset.classes.{name}")
        for value, name in (self.mask_values or {}).items():
            _add(values, as_text(value), self._index(str(name), names, "dataset.mask_values"), "dataset.mask_values")
        for value in self.ignore_values or ():
            _add(values, as_text(value), IGNORE_INDEX, "dataset.ignore_values")
        return values

    def _build(self, names: Sequence[str], values: Mapping[str, int]) -> PolygonClasses:
        if len(names) < 2:
            raise DataError(f"The polygons are of {len(names)} class ({', '.join(names)}); give at least two.")
        given = self.classes if isinstance(self.classes, Mapping) else {}
        palette = tuple(
            display_colour(name, given.get(name), index, by_colour=False) for index, name in enumerate(names)
        )
        outside = self._index(str(self.outside), names, "dataset.vectors.outside")
        return PolygonClasses(tuple(names), palette, self.attribute, values, outside)

    def _index(self, name: str, names: Sequence[str], option: str) -> int:
        if name == IGNORE:
            return IGNORE_INDEX
        if name not in names:
            raise ConfigError(f"{option}: {name} is none of the classes {', '.join(names)} (or {IGNORE}).")
        return list(names).index(name)


def _texts(name: str, value: Any) -> list[str]:
    """Return the attribute values of a class option; by default the name of the class."""
    if isinstance(value, Mapping):
        value = value.get("value")
    if value is None:
        return [name]
    return [as_text(v) for v in value] if isinstance(value, list | tuple) else [as_text(value)]


def _add(values: dict[str, int], text: str, index: int, option: str) -> None:
    if values.setdefault(text, index) != index:
        raise ConfigError(f"{option}: value {text} is given twice, for different classes; give each value once.")
