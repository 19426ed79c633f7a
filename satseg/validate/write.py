"""Writing a validation: text for the terminal, JSON, and the report page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from satseg.files import write_json, write_text
from satseg.spec import IGNORE_INDEX
from satseg.validate.checking import Validation
from satseg.validate.findings import Severity, count, percent
from satseg.validate.masks import format_value, mask_values
from satseg.validate.sample_panels import sample_panels
from satseg.visualization.figures import plot_balance, plot_footprints, plot_panels
from satseg.visualization.page import Picture, read_picture, render_page

COLUMNS = 4  # of the sample grid: two samples, each beside its overlay
MAX_SIZES = 12  # in the table


def write_validation(validation: Validation, folder: Path) -> str:
    """Write report.json and report.html; return the summary for the terminal.

    Args:
        validation: The results.
        folder: Output folder.

    Raises:
        ResourceError: If a file cannot be written.
    """
    write_json(folder / "report.json", _plain(validation))
    write_text(folder / "report.html", _page(validation, folder))
    lines = [verdict(validation), *(f.line() for f in validation.findings)]
    return "\n".join([*lines, f"Page: {folder / 'report.html'}"])


def verdict(validation: Validation) -> str:
    """Return a one-line verdict on the dataset and its contents."""
    sizes = ", ".join(f"{totals.images} {split}" for split, totals in validation.totals.items())
    held = f"{count(len(validation.facts), 'image')} ({sizes}), {len(validation.scheme.names)} classes"
    if validation.is_sound:
        return f"Sound: {held}."
    grades = Counter(f.severity for f in validation.findings)
    found = [count(grades[s], s.name.lower()) for s in (Severity.ERROR, Severity.WARNING) if grades[s]]
    judgement = "Not sound" if grades[Severity.ERROR] else "Usable, but look at what was found"
    return f"{judgement}: {' and '.join(found)} in {held}."


def _plain(validation: Validation) -> dict[str, Any]:
    scheme = validation.scheme
    return {
        "root": validation.root,
        "sound": validation.is_sound,
        "findings": [asdict(f) | {"severity": f.severity.name.lower()} for f in validation.findings],
        "classes": list(scheme.names),
        "splits": {
            split: {
                "images": totals.images,
                "pixels": totals.pixels,
                "ignored_or_no_data": totals.uncounted,
                "class_pixels": dict(zip(scheme.names, totals.class_pixels.tolist(), strict=True)),
                "class_shares": dict(zip(scheme.names, totals.shares.tolist(), strict=True)),
                "names": [f.name for f in validation.splits[split]],
            }
            for split, totals in validation.totals.items()
        },
        "mask_values": [
            {"value": value, "class": name, "pixels": pixels} for value, name, pixels in _values(validation)
        ],
        "bands": [{k: v for k, v in asdict(band).items() if k != "counts"} for band in validation.bands],
        "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in _sizes(validation).most_common()],
    }


def _values(validation: Validation) -> list[tuple[str, str, int]]:
    scheme = validation.scheme
    found = sorted(mask_values(validation.facts).items(), key=lambda item: -item[1])
    names = {**dict(enumerate(scheme.names)), IGNORE_INDEX: "ignored"}
    return [(format_value(value, scheme), names[scheme.values[value]], pixels) for value, pixels in found]


def _sizes(validation: Validation) -> Counter[tuple[int, int]]:
    return Counter((f.image_info.width, f.image_info.height) for f in validation.facts if f.image_info)


def _page(validation: Validation, folder: Path) -> str:
    total = sum(pixels for *_, pixels in _values(validation))
    infos = [f.image_info for f in validation.facts if f.image_info]
    return render_page(
        "validation.html",
        {"percent": percent},
        title=Path(validation.root).name or validation.root,
        root=validation.root,
        verdict=verdict(validation),
        findings=[
            {
                "grade": f.severity.name.lower(),
                "message": f.message,
                "expected": f.expected,
                "repair": f.repair,
                "files": f.files,
                "num_files": len(f.files),
            }
            for f in validation.findings
        ],
        totals=validation.totals,
        class_names=validation.scheme.names,
        colours=validation.scheme.palette,
        values=[(v, name, f"{n:,}", percent(n / max(total, 1))) for v, name, n in _values(validation)],
        bands=[_band_row(band) for band in validation.bands],
        sizes=[(f"{w} x {h}", n) for (w, h), n in _sizes(validation).most_common(MAX_SIZES)],
        more_sizes=max(0, len(_sizes(validation)) - MAX_SIZES),
        kinds=Counter(f"{info.count} bands, {info.dtype}" for info in infos).most_common(),
        pixels=f"{sum(t.pixels for t in validation.totals.values()) / 1e6:,.1f}",
        pictures=_pictures(validation, folder),
    )


def _band_row(band: Any) -> tuple[str, str, str, str, str]:
    score = "–" if np.isnan(band.score) else f"{band.score:.3f}"
    return band.name, f"{band.low:.6g}", f"{band.high:.6g}", f"{band.distinct:,}", score


def _pictures(validation: Validation, folder: Path) -> Mapping[str, Picture]:
    made: dict[str, Path] = {}
    figures, scheme = folder / "figures", validation.scheme
    if any(t.class_pixels.sum() for t in validation.totals.values()):
        shares = {split: totals.shares for split, totals in validation.totals.items()}
        uncounted = {split: totals.uncounted for split, totals in validation.totals.items()}
        made["balance"] = figures / "balance.png"
        plot_balance(shares, uncounted, scheme.names, scheme.palette, made["balance"])
    samples = sample_panels(validation.splits, scheme, validation.bands_read)
    if samples:
        made["samples"] = figures / "samples.png"
        plot_panels(samples, made["samples"], COLUMNS)
    if validation.places:
        made["places"] = figures / "footprints.png"
        splits = dict.fromkeys(place.split for place in validation.places)
        outlines = {s: [np.array(p.outline.exterior.coords) for p in validation.places if p.split == s] for s in splits}
        plot_footprints(outlines, validation.axes, made["places"])
    return {name: read_picture(name, "", path) for name, path in made.items()}
