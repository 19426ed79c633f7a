"""Measure megapixels per second on whole scenes: satseg's engines, a typical user's loop, and the bare model.

    python scripts/benchmarks/scene_speed.py --size 4096                    # engines, the loop, the bare model
    python scripts/benchmarks/scene_speed.py --size 4096 16384 --only auto  # speed and memory over sizes
    python scripts/benchmarks/scene_speed.py --checkpoint runs/my_run       # a trained model, with its int8 export

Each variant runs in a separate process, alternating with the others. Printed are the medians, split into reading,
inference, writing and finishing, the peak memory, and the share of pixels that equal satseg's own eager result. Timed
is everything from opening the scene to the finished file, including the engine's first run, but not imports and loading
the model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OVERLAP, LOOP_WINDOW, LOOP_BATCH, CLASSES = 64, 512, 4, 6
VARIANTS = ("loop", "torch", "onnx", "openvino", "auto", "bare", "openvino_int8")


def make_scene(path: Path, size: int, parts: Path | None) -> None:
    """Write a tiled RGB scene, from real parts if available, otherwise generated."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    profile = {"driver": "GTiff", "width": size, "height": size, "count": 3, "dtype": "uint8", "tiled": True}
    profile |= {"compress": "deflate", "crs": "EPSG:32640", "blockxsize": 512, "blockysize": 512, "bigtiff": "if_safer"}
    profile["transform"] = rasterio.Affine(0.5, 0, 300_000, 0, -0.5, 2_700_000)
    tile = _tile(parts)
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, size, 512):
            for col in range(0, size, 512):
                top, left = row % (tile.shape[1] - 512), col % (tile.shape[2] - 512)
                height, width = min(512, size - row), min(512, size - col)
                block = tile[:, top : top + height, left : left + width]
                target.write(np.ascontiguousarray(block), window=Window(col, row, width, height))


def _tile(parts: Path | None):
    import numpy as np
    from PIL import Image

    files = sorted(parts.glob("Tile 8/images/*.jpg")) if parts else []
    if len(files) != 9:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 255, (3, 64, 64), np.uint8).repeat(32, 1).repeat(32, 2)
        return np.clip(coarse + rng.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)
    rows = [np.concatenate([np.array(Image.open(f).convert("RGB")) for f in files[i : i + 3]], 1) for i in (0, 3, 6)]
    return np.ascontiguousarray(np.concatenate(rows, 0).transpose(2, 0, 1))


def make_model(folder: Path) -> None:
    """Save `unet` on `resnet18` with six classes and random weights."""
    import torch

    from satseg.models import build_model
    from satseg.models.checkpoint import save_model
    from satseg.spec import BandStatistics, DatasetSpec, InputSpec

    torch.manual_seed(0)
    statistics_ = BandStatistics(*[(v,) * 3 for v in (0.0, 255.0, 120.0, 50.0, 10.0, 240.0)])
    source = InputSpec(
        ("red", "green", "blue"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3, statistics=statistics_
    )
    colours = tuple((40 * i, 255 - 40 * i, 100) for i in range(CLASSES))
    spec = DatasetSpec((source,), tuple(f"class_{i}" for i in range(CLASSES)), colours)
    config = {"_target_": "segmentation_models_pytorch.decoders.unet.model.Unet", "encoder_name": "resnet18"}
    network = build_model(config, spec)
    save_model(folder / "model.safetensors", network, training={}, protocol={})
    (folder / "config.yaml").write_text("dataset: {}\n")
    (folder / "summary.json").write_text("{}\n")


def loop(checkpoint: Path, scene: Path, output: Path) -> dict[str, float]:
    """Segment with a typical user's loop: windows from a DataLoader, an eager model, one array, written at the end."""
    import numpy as np
    import rasterio
    import torch
    from rasterio.windows import Window
    from torch.utils.data import DataLoader, Dataset

    from satseg.models.checkpoint import load_model

    network = load_model(checkpoint)
    start = time.perf_counter()  # as in satseg: from the scene's header, the model loaded, to the finished file
    with rasterio.open(scene) as source:
        height, width, profile = source.height, source.width, source.profile
    starts = [sorted({min(s, n - LOOP_WINDOW) for s in range(0, n, LOOP_WINDOW - OVERLAP)}) for n in (height, width)]
    places = [(row, col) for row in starts[0] for col in starts[1]]

    class Windows(Dataset):
        def __len__(self) -> int:
            return len(places)

        def __getitem__(self, index: int):
            row, col = places[index]
            with rasterio.open(scene) as source:
                image = source.read(window=Window(col, row, LOOP_WINDOW, LOOP_WINDOW))
            return torch.from_numpy(image).float(), index

    result = np.zeros((height, width), np.uint8)
    with torch.no_grad():
        for images, indices in DataLoader(Windows(), batch_size=LOOP_BATCH):
            for classes, index in zip(network(images).argmax(1), indices, strict=True):
                row, col = places[int(index)]
                result[row : row + LOOP_WINDOW, col : col + LOOP_WINDOW] = classes.numpy()
    with rasterio.open(output, "w", **profile | {"count": 1}) as target:
        target.write(result, 1)
    return {"all": time.perf_counter() - start}


def satseg(engine: str, checkpoint: Path, scene: Path, output: Path, window: int | None) -> dict[str, float]:
    """Segment through the parts of `satseg.predict`."""
    from hydra import compose, initialize_config_dir

    from satseg.config import CONFIG_DIR
    from satseg.predict.models import open_models
    from satseg.predict.run import predict_scenes

    options = [f"checkpoint='{checkpoint}'", f"input='{scene}'", f"output='{output}'", f"engine={engine}"]
    options += [f"overlap={OVERLAP}", "progress=false", "device=cpu"] + ([f"window_size={window}"] if window else [])
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("predict", options)
    (outcome,) = predict_scenes(cfg, open_models(cfg))
    return outcome.watch.seconds


def bare(engine: str, checkpoint: Path, scene: Path, output: Path, window: int | None) -> dict[str, float]:
    """Run only the engine on the same windows, already in memory."""
    from hydra import compose, initialize_config_dir

    from satseg.config import CONFIG_DIR
    from satseg.inference.pipeline import Stopwatch
    from satseg.predict.assemble import maker_of, source_of
    from satseg.predict.models import open_models

    options = [f"checkpoint='{checkpoint}'", f"input='{scene}'", f"engine={engine}", f"overlap={OVERLAP}"]
    options += ["device=cpu"] + ([f"window_size={window}"] if window else [])
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("predict", options)
    models = open_models(cfg)
    maker = maker_of(cfg, models, source_of(cfg, models, scene))
    batches = list(maker._read(range(len(maker.plan.rows)), Stopwatch()))
    start = time.perf_counter()  # opened, but not yet run, as in the other variants
    for batch in batches:
        maker.engine(*batch)
    return {"all": time.perf_counter() - start}


def run_one(arguments: argparse.Namespace) -> None:
    """Run one variant in this process and print its measurements."""
    variant, engine = arguments.run, arguments.engine
    paths = arguments.checkpoint, arguments.scene, arguments.output
    if variant == "loop":
        seconds = loop(*paths)
    elif variant == "bare":
        seconds = bare(engine, *paths, arguments.window)
    else:
        seconds = satseg(variant, *paths, arguments.window)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds["all"], "peak_gib": peak, "split": seconds}))


def spawn(arguments: argparse.Namespace, variant: str, scene: Path, output: Path) -> dict:
    command = [sys.executable, __file__, "--run", variant, "--checkpoint", str(arguments.checkpoint)]
    command += ["--scene", str(scene), "--output", str(output), "--engine", arguments.engine]
    command += ["--window", str(arguments.window)] if arguments.window else []
    output.unlink(missing_ok=True)  # a finished map would be reused
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def quantise(checkpoint: Path, scene: Path) -> None:
    """Create the int8 model, if missing, with crops of the scene; calibration does not affect its speed."""
    import torch

    from satseg.data.rasters.header import Window
    from satseg.data.rasters.raster import read_image
    from satseg.errors import EngineError
    from satseg.inference.engines import keep_int8, open_engine
    from satseg.models.checkpoint import load_model, model_path
    from satseg.runtimes import Source, export_int8

    path = model_path(checkpoint)
    network = load_model(path)
    try:
        open_engine(path, network, "openvino_int8", torch.device("cpu"))
    except EngineError:
        images = (read_image(scene, Window(512 * i, 512 * i, 512, 512))[0] for i in range(8))
        crops = (torch.from_numpy(image)[None].float() for image in images)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "int8.xml"
            export_int8(Source(network, path), output, crops, lambda network: float("nan"))
            keep_int8(network, output)


def equal_share(one: Path, other: Path) -> float:
    import rasterio

    same = total = 0
    with rasterio.open(one) as a, rasterio.open(other) as b:
        for _, window in a.block_windows(1):
            left, right = a.read(1, window=window), b.read(1, window=window)
            same, total = same + int((left == right).sum()), total + left.size
    return same / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--engine", default="auto", help="of the variant `bare`")
    parser.add_argument("--window", type=int, help="window_size; the default of satseg.predict otherwise")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--dubai", type=Path, default=Path(os.environ.get("SATSEG_SHARED", "../shared")) / "data/dubai")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_one(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        compare(arguments, Path(name))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    if arguments.checkpoint is None:
        arguments.checkpoint = folder / "model"
        arguments.checkpoint.mkdir()
        make_model(arguments.checkpoint)
    print(f"{'size':>6} {'variant':>16} {'Mpx/s':>7} {'to first':>8} {'peak GiB':>8} {'equal':>9}  seconds by part")
    for size in arguments.size:
        scene = folder / f"scene_{size}.tif"
        make_scene(scene, size, arguments.dubai if arguments.dubai.is_dir() else None)
        if "openvino_int8" in arguments.only:
            quantise(arguments.checkpoint, scene)
        results: dict[str, list[dict]] = {variant: [] for variant in arguments.only}
        for variant in arguments.only:  # warm-up: builds engines and reads files
            if variant not in ("loop", "bare"):
                spawn(arguments, variant, scene, folder / f"{variant}.tif")
        for _ in range(arguments.rounds):
            for variant, found in results.items():
                found.append(spawn(arguments, variant, scene, folder / f"{variant}.tif"))
        report(size, results, folder)


def report(size: int, results: dict[str, list[dict]], folder: Path) -> None:
    first = None
    for variant, found in results.items():
        middle = sorted(found, key=lambda r: r["seconds"])[len(found) // 2]
        speed = size**2 / 1e6 / middle["seconds"]
        first = first or speed
        peak = statistics.median(r["peak_gib"] for r in found)
        eager, own = folder / "torch.tif", folder / f"{variant}.tif"
        equal = f"{equal_share(eager, own):9.5f}" if eager.exists() and own.exists() else " " * 9
        split = ", ".join(f"{part} {seconds:.2f}" for part, seconds in middle["split"].items())
        print(f"{size:>6} {variant:>16} {speed:7.3f} {speed / first:8.2f} {peak:8.2f} {equal}  {split}", flush=True)


if __name__ == "__main__":
    main()
