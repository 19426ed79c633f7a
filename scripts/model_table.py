"""Update the table of models and backbones in docs/models.md."""

import re
from pathlib import Path

from satseg.models.catalogue import table

PAGE = Path(__file__).resolve().parents[1] / "docs/models.md"
MARKERS = "<!-- model-table -->", "<!-- /model-table -->"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(f"{MARKERS[0]}.*?{MARKERS[1]}", re.DOTALL)
    PAGE.write_text(pattern.sub(f"{MARKERS[0]}\n{table()}\n{MARKERS[1]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
