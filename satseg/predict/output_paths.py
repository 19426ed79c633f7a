"""Output paths of a prediction, and checks that nothing is overwritten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from omegaconf import DictConfig

from satseg.cli.checks import is_vector_format
from satseg.data.rasters.inputs import source_name
from satseg.data.rasters.opening import is_remote, redacted
from satseg.errors import ConfigError
from satseg.inference.products import Product, product_paths

# Of several scenes, besides their own files.
ALL_POLYGONS, ALL_AREAS = "all_scenes.gpkg", "all_scenes_areas.csv"
MAP_SUFFIXES = (".tif", ".tiff")
OTHER_SUFFIXES = {".png", ".jpg", ".jpeg", ".jp2", ".vrt", ".img", ".gpkg", ".geojson", ".json", ".fgb", ".shp", ".csv"}


def map_paths(folder: Path, scenes: Sequence[str | Path]) -> list[Path]:
    """Return the path of each scene's map.

    Args:
        folder: Output folder; or the map file, for one scene.
        scenes: Files and URLs.

    Raises:
        ConfigError: If a file is given for several scenes, or it is not a GeoTIFF.
    """
    suffix = "" if folder.is_dir() else folder.suffix.lower()
    if suffix in MAP_SUFFIXES:
        if len(scenes) > 1:
            raise ConfigError(f"output={folder}: {len(scenes)} scenes need a folder, not one file.")
        return [folder]
    if suffix in OTHER_SUFFIXES:
        raise ConfigError(f"output={folder}: a map is a GeoTIFF, so its name must end in .tif; or give a folder.")
    taken: set[str] = set()
    return [folder / f"{_free(source_name(scene), taken)}.tif" for scene in scenes]


def _free(name: str, taken: set[str]) -> str:
    """Return a unique name; two scenes may share theirs, in different folders or with different suffixes."""
    free = next(n for n in chain([name], (f"{name}_{i}" for i in count(2))) if n.casefold() not in taken)
    taken.add(free.casefold())
    return free


def extra_paths(cfg: DictConfig, output: Path) -> dict[str, Path]:
    """Return the extra files of a map, by option."""
    paths = {}
    if cfg.preview:
        paths["preview"] = output.with_name(f"{output.stem}_preview.png")
    if cfg.areas:
        paths["areas"] = output.with_name(f"{output.stem}_areas.csv")
    if cfg.vectors:
        paths["vectors"] = output.with_suffix(f".{cfg.vectors}") if is_vector_format(cfg.vectors) else Path(cfg.vectors)
    return paths


def combined_paths(cfg: DictConfig, folder: Path, num_scenes: int) -> dict[str, Path]:
    """Return the combined files of all scenes, by option."""
    if cfg.scenes == "single" or (cfg.scenes == "auto" and num_scenes < 2):
        return {}
    paths = {"areas": folder / ALL_AREAS} if cfg.areas else {}
    return paths | ({"vectors": folder / ALL_POLYGONS} if cfg.vectors else {})


def check_paths(
    cfg: DictConfig, scenes: Sequence[str | Path], outputs: Sequence[Path], products: Sequence[Product]
) -> None:
    """Check that no file is written twice, and no input overwritten.

    Raises:
        ConfigError: If so; names the file.
    """
    if len(scenes) > 1 and cfg.vectors and not is_vector_format(cfg.vectors):
        raise ConfigError(
            f"vectors={cfg.vectors}: it would be written twice, as each scene has its own polygons; with "
            f"vectors=gpkg they are written next to each map, and those of all scenes to {ALL_POLYGONS}."
        )
    seen: set[str] = set()
    files = {f.resolve() for scene in scenes if not is_remote(scene) for f in [Path(scene)]}
    for path in _all(cfg, outputs, products):
        if path.resolve() in files:
            raise ConfigError(f"{redacted(path)} is an input scene, which would be overwritten; give another output.")
        if str(path.resolve()).casefold() in seen:
            raise ConfigError(f"{path} would be written twice; rename the scenes, or segment them one by one.")
        seen.add(str(path.resolve()).casefold())


def _all(cfg: DictConfig, outputs: Sequence[Path], products: Sequence[Product]) -> Iterator[Path]:
    if outputs:
        yield from combined_paths(cfg, outputs[0].parent, len(outputs)).values()
    for output in outputs:
        yield from product_paths(output, products)
        yield from extra_paths(cfg, output).values()
