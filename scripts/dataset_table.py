"""Update the table of known datasets in docs/datasets.md from the comments of their YAML files."""

import re
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
PAGE, FOLDER = ROOT / "docs/datasets.md", ROOT / "conf/dataset"
MARKERS = "<!-- dataset-table -->", "<!-- /dataset-table -->"


def known() -> list[str]:
    """Return the names of datasets with a documented source."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if "# Source:" in path.read_text(encoding="utf-8"))


def table() -> str:
    """Return the table in Markdown."""
    rows = ["| `dataset=` | classes | train / val / test | licence |", "| --- | --- | --- | --- |"]
    for name in known():
        path = FOLDER / f"{name}.yaml"
        fields = dict(re.findall(r"^# (\w+): (.*)", path.read_text(encoding="utf-8"), re.MULTILINE))
        split = re.split(r"[,;]", fields["Split"])[0]
        rows.append(f"| `{name}` | {len(OmegaConf.load(path).classes)} | {split} | {fields['Licence']} |")
    return "\n".join(rows)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(f"{MARKERS[0]}.*?{MARKERS[1]}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: f"{MARKERS[0]}\n{table()}\n{MARKERS[1]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
