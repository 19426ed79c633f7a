"""Compare satseg's defaults with a plain training loop, on the same images and budget.

    python scripts/benchmarks/defaults.py --shared ../shared --output defaults
    python scripts/benchmarks/defaults.py --output defaults --table --page experiments/defaults/README.md

An arm is `loop`, `loop lr=3e-4`, `loop val=no` (without the validation images), `satseg`, or satseg with options:
`satseg ema=false`. The only options given to satseg are data, backbone, weights, patch size, batch size and budget,
the required adaptation of three-band weights to other bands (`repeat`, as in the loop), and `channels_last=true`,
which saves a third of the time, as in the loop. satseg validates on images that the loop, which has no validation,
uses for training; neither sees the test images. Each result is a file in the output folder; existing results are not
trained again.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import sys
import time
import traceback
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import plain_loop
import torch
from defaults_data import SETS, prepare

# the budget is divided into epochs for satseg: 187 and 1000 steps in both
EPOCHS = {1500: 11, 8000: 20}
EDGE, BATCH = 64, 8
MARK = "<!-- scores -->"


def loop(data: Path, weights: Path, classes: int, crops: int, seed: int, options: list[str]) -> dict[str, object]:
    """Train the plain loop on train and val, and score it."""
    given = dict(option.split("=") for option in options)
    lr = float(given.get("lr", "1e-3"))
    splits = ("train",) if given.get("val") == "no" else ("train", "val")
    pairs = [pair for split in splits for pair in plain_loop.read_pairs(data / "mine" / split)]
    predict = plain_loop.train(pairs, weights, classes, crops=crops, edge=EDGE, batch=BATCH, lr=lr, seed=seed)
    return plain_loop.score(predict, plain_loop.read_pairs(data / "test"), classes)


def satseg(
    data: Path, weights: Path, names: tuple[str, ...], crops: int, seed: int, options: list[str], run: Path
) -> dict[str, object]:
    """Train with the command, and score its model file."""
    from satseg.models.checkpoint import load_model
    from satseg.train.__main__ import main

    epochs = EPOCHS[crops]
    classes = ", ".join(f"{name}: {number}" for number, name in enumerate(names))
    sys.argv[1:] = [
        "dataset=folder",
        f"dataset.root={data / 'mine'}",
        f"dataset.classes={{{classes}}}",
        "backbone=tf_efficientnet_lite0",
        f"backbone.weights={weights}",
        f"dataset.patch_size={EDGE}",
        f"dataset.batch_size={BATCH}",
        f"dataset.patches_per_epoch={crops // BATCH // epochs * BATCH}",
        f"trainer.max_epochs={epochs}",
        "trainer.accelerator=cpu",
        "channels_last=true",
        "backbone.adapt=repeat",
        f"seed={seed}",
        f"run_dir={run}",
        *options,
    ]
    main()
    network = load_model(run).eval()

    def predict(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(network(torch.from_numpy(image.astype(np.float32))[None])[0].argmax(0))

    return plain_loop.score(predict, plain_loop.read_pairs(data / "test"), len(names))


def run_in_fork(work: object, log: Path) -> bool:
    """Run a function in a fork of this process, with libraries imported; return whether it succeeded."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            with log.open("w", buffering=1) as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                work()  # type: ignore[operator]
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0


def measure(name: str, crops: int, seed: int, arm: str, output: Path, args: argparse.Namespace) -> None:
    """Train one arm once, and write its result."""
    stem = re.sub(r"[^a-z0-9.-]+", "_", f"{name}-{crops}-{seed}-{arm}".lower())
    path = output / "results" / f"{stem}.json"
    if path.exists():
        return
    data, weights = (output / "data" / name).resolve(), args.weights.resolve()
    kind, *options = arm.split()
    start = time.monotonic()

    def work() -> None:
        if kind == "loop":
            scores = loop(data, weights, len(SETS[name][1]), crops, seed, options)
        else:
            run = (output / "runs" / stem).resolve()
            shutil.rmtree(run, ignore_errors=True)
            scores = satseg(data, weights, SETS[name][1], crops, seed, options, run)
        seconds = round(time.monotonic() - start)
        about = {"set": name, "crops": crops, "seed": seed, "arm": arm, "seconds": seconds}
        path.with_suffix(".part").write_text(json.dumps(about | scores, indent=2) + "\n")
        path.with_suffix(".part").rename(path)

    log = output / "logs" / f"{stem}.log"
    ended = run_in_fork(work, log)
    result = f"{json.loads(path.read_text())['miou']:.4f}" if ended else f"failed, see {log}"
    print(f"{time.strftime('%H:%M:%S')} {stem}: {result} ({time.monotonic() - start:.0f} s)", flush=True)


def table(output: Path) -> str:
    """Return a table of the results: the mean of each arm over its seeds, and each seed."""
    results = [json.loads(path.read_text()) for path in sorted((output / "results").glob("*.json"))]
    lines = ["| data | crops | arm | mean mIoU | deviation | each seed |", "| --- | --: | --- | --: | --: | --- |"]
    by_row = lambda r: (list(SETS).index(r["set"]), r["crops"], r["arm"])  # noqa: E731
    for (_, crops, arm), rows in itertools.groupby(sorted(results, key=by_row), key=by_row):
        own = sorted(rows, key=lambda r: r["seed"])
        scores = [r["miou"] for r in own]
        spread = f"{stdev(scores):.3f}" if len(scores) > 1 else ""
        each = " ".join(f"{score:.4f}" for score in scores)
        lines.append(f"| {own[0]['set']} | {crops} | `{arm}` | {mean(scores):.4f} | {spread} | {each} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder that holds data/dubai")
    parser.add_argument("--weights", type=Path, help="of tf_efficientnet_lite0")
    parser.add_argument("--sets", nargs="+", default=["dubai", "chip", "embedded"], choices=list(SETS))
    parser.add_argument("--crops", type=int, nargs="+", default=[1500, 8000], choices=list(EPOCHS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=["loop", "satseg"])
    parser.add_argument("--table", action="store_true", help="only show what is there")
    parser.add_argument("--page", type=Path, help="write the table into this page, too, between its two marks")
    args = parser.parse_args()
    if not args.table:
        args.weights = args.weights or args.shared / "weights/tf_efficientnet_lite0.safetensors"
        for folder in ("results", "logs", "runs"):
            (args.output / folder).mkdir(parents=True, exist_ok=True)
        for name in args.sets:
            prepare(name, args.shared, args.output / "data" / name)
        import satseg.train.run  # noqa: F401  (before copies are made)

        for crops, seed, name, arm in itertools.product(args.crops, args.seeds, args.sets, args.arms):
            measure(name, crops, seed, arm, args.output, args)
    print(table(args.output))
    if args.page:
        before, _, after = args.page.read_text().split(MARK)
        args.page.write_text(f"{before}{MARK}\n{table(args.output)}\n{MARK}{after}")


if __name__ == "__main__":
    main()
