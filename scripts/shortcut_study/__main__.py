"""Study of shortcut detection: planted cues that the diagnosis reports, and false alarms.

python scripts/shortcut_study train --output runs/shortcut_study               # existing results are kept
python scripts/shortcut_study diagnose --output runs/shortcut_study --label now
python scripts/shortcut_study table --output runs/shortcut_study --label now
python scripts/shortcut_study picture --output experiments/shortcut_study/cues.png
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import copies
import diagnosing
import training
from backgrounds import backgrounds, has_real
from cues import SPLITS
from gallery import write_gallery
from plan import PARTS, Model, plan
from tables import missed, tables, verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["train", "diagnose", "table", "picture"])
    parser.add_argument("--output", type=Path, default=Path("runs/shortcut_study"))
    parser.add_argument("--label", default="now", help="of the diagnoses, so that several versions can be compared")
    parser.add_argument("--only", default="", help="only models whose names contain this")
    parser.add_argument("--part", choices=PARTS, help="only these models")
    parser.add_argument("--first", type=int, help="only so many models")
    parser.add_argument("--crops", type=int, default=training.CROPS, help="to train on; fewer to try it out")
    args = parser.parse_args()
    models = [
        m
        for m in plan()
        if (m.background != "real" or has_real()) and args.only in m.name and args.part in (None, m.part)
    ][: args.first]
    if not models:
        parser.error(f"no model of this part has {args.only!r} in its name")
    if args.step == "train":
        train(models, args.output, args.crops)
    elif args.step == "diagnose":
        diagnose(models, args.output, args.label)
    elif args.step == "picture":
        write_gallery(args.output)
    else:
        table(models, args.output, args.label)


def train(models: list[Model], output: Path, crops: int) -> None:
    copies.import_libraries()
    for background, split in itertools.product(("embedded", "real") if has_real() else ("embedded",), SPLITS):
        backgrounds(background, split)  # cached, and inherited by the forks
    output.mkdir(parents=True, exist_ok=True)
    for number, model in enumerate(models, 1):
        start = time.perf_counter()
        folder = output / model.name
        done = training.train(model, folder, crops)
        facts = json.loads((folder / training.FACTS).read_text()) if done else {}
        scores = (
            f"a {facts['iou']['a']:.2f}, costs {facts['removal_cost']:.2f}" if done else f"failed: {folder}/train.log"
        )
        print(f"{number}/{len(models)} {model.name}: {scores} ({time.perf_counter() - start:.0f} s)", flush=True)


def diagnose(models: list[Model], output: Path, label: str) -> None:
    copies.import_libraries()
    trained = [model for model in models if (output / model.name / training.FACTS).exists()]
    print(f"{len(trained)} of {len(models)} models are trained.", flush=True)
    for number, model in enumerate(trained, 1):
        folder = output / model.name
        if not diagnosing.diagnose(model, folder, label):
            print(f"{number}/{len(trained)} {model.name}: failed, see {folder}/diagnoses/{label}/log.txt", flush=True)
            continue
        row = read(folder, label)
        print(f"{number}/{len(trained)} {model.name}: costs {row['removal_cost']:.2f}, {verdict(row)}", flush=True)


def table(models: list[Model], output: Path, label: str) -> None:
    done = [model for model in models if diagnosing.found_at(output / model.name, label).exists()]
    rows = [read(output / model.name, label) for model in done]
    (output / f"{label}.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"{len(rows)} of {len(models)} models.\n\n{tables(rows)}\n\n{missed(rows)}")


def read(folder: Path, label: str) -> dict[str, Any]:
    """Return the facts of a model together with its diagnosis."""
    facts = json.loads((folder / training.FACTS).read_text())
    return facts | json.loads(diagnosing.found_at(folder, label).read_text())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
