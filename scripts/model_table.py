"""Write the table of models and backbones into the README, between its two markers."""

import re
from pathlib import Path

from satseg.models.pairs import table

README = Path(__file__).resolve().parents[1] / "README.md"
MARKERS = "<!-- model-table -->", "<!-- /model-table -->"


def main() -> None:
    text = README.read_text(encoding="utf-8")
    pattern = re.compile(f"{MARKERS[0]}.*?{MARKERS[1]}", re.DOTALL)
    README.write_text(pattern.sub(f"{MARKERS[0]}\n{table()}\n{MARKERS[1]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
