"""A plain training loop without satseg, as a baseline for satseg's defaults.

SMP's U-Net on an ImageNet backbone, random crops, flips and rotations by 90°, cross-entropy plus Dice, AdamW, a cosine
schedule by step, no validation, the last weights. Bands that are not 8-bit RGB are standardised by the training images,
and timm adapts the first layer to them.

    python scripts/benchmarks/plain_loop.py --train mine/train --test mine/test --classes 5 --crops 1500 \
        --weights tf_efficientnet_lite0.safetensors

A folder contains `images` and `masks` with the same file names, readable by rasterio; masks hold 0 to K-1, or 255 for
unlabelled pixels.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rasterio
import segmentation_models_pytorch as smp
import torch
from torch.nn.functional import pad

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]  # image (C, H, W) as stored, mask (H, W) uint8
Predict = Callable[[np.ndarray], np.ndarray]  # from an image to its classes (H, W)
IGNORE, STRIDE = 255, 32


def read_pairs(folder: Path) -> Pairs:
    pairs = []
    for path in sorted((folder / "images").iterdir()):
        with rasterio.open(path) as image, rasterio.open(folder / "masks" / path.name) as mask:
            pairs.append((image.read(), mask.read(1)))
    return pairs


def standardiser(pairs: Pairs) -> Callable[[np.ndarray], torch.Tensor]:
    """Return a function that standardises a batch (N, C, H, W), by the backbone's mean and std or by these images'."""
    first = pairs[0][0]
    if first.dtype == np.uint8 and len(first) == 3:
        mean, std = np.full(3, 127.5, np.float32), np.full(3, 127.5, np.float32)
    else:
        pixels = np.concatenate([image.reshape(len(image), -1) for image, _ in pairs], axis=1).astype(np.float64)
        mean, std = pixels.mean(1).astype(np.float32), pixels.std(1).astype(np.float32)

    def standardise(batch: np.ndarray) -> torch.Tensor:
        numbers = torch.from_numpy((batch.astype(np.float32) - mean[:, None, None]) / std[:, None, None])
        return numbers.contiguous(memory_format=torch.channels_last)

    return standardise


def crop(pairs: Pairs, shares: np.ndarray, edge: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Crop a square at random, sampling images by area; rotate and flip it."""
    image, mask = pairs[random.choice(len(pairs), p=shares)]
    top, left = (int(random.integers(length - edge + 1)) for length in mask.shape)
    image, mask = image[:, top : top + edge, left : left + edge], mask[top : top + edge, left : left + edge]
    turns, flip = int(random.integers(4)), random.random() < 0.5
    image, mask = np.rot90(image, turns, axes=(1, 2)), np.rot90(mask, turns)
    return (image[:, :, ::-1], mask[:, ::-1]) if flip else (image, mask)


def train(
    pairs: Pairs, weights: Path, classes: int, *, crops: int, edge: int, batch: int, lr: float, seed: int
) -> Predict:
    """Train on a number of crops; return a prediction function."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    standardise = standardiser(pairs)
    net = smp.Unet(
        "tu-tf_efficientnet_lite0",
        encoder_weights="imagenet",
        in_channels=len(pairs[0][0]),
        classes=classes,
        pretrained_cfg_overlay={"file": str(weights)},
    ).to(memory_format=torch.channels_last)  # a third less time
    optimizer = torch.optim.AdamW(net.parameters(), lr)
    cross_entropy = torch.nn.CrossEntropyLoss(ignore_index=IGNORE)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)
    areas = np.array([mask.size for _, mask in pairs], float)
    steps = crops // batch
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        images, masks = zip(*(crop(pairs, areas / areas.sum(), edge, random) for _ in range(batch)), strict=True)
        target = torch.from_numpy(np.stack(masks)).long()
        logits = net(standardise(np.stack(images)))
        loss = cross_entropy(logits, target) + dice(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step} of {steps}, loss {loss.item():.3f}", flush=True)
    net.eval()

    def predict(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[1:]
        with torch.no_grad():
            logits = net(pad(standardise(image[None]), (0, -width % STRIDE, 0, -height % STRIDE)))
        return np.asarray(logits[0, :, :height, :width].argmax(0))

    return predict


def score(predict: Predict, pairs: Pairs, classes: int) -> dict[str, object]:
    """Return the scores of whole images, from one confusion matrix."""
    matrix = np.zeros((classes, classes), np.int64)
    for image, mask in pairs:
        labelled = mask != IGNORE
        cells = mask[labelled].astype(np.int64) * classes + predict(image)[labelled]
        matrix += np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    hits = np.diag(matrix)
    iou = hits / (matrix.sum(0) + matrix.sum(1) - hits)
    return {"miou": float(iou.mean()), "iou": iou.tolist(), "accuracy": float(hits.sum() / matrix.sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="folders of images and masks")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--crops", type=int, default=1500)
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pairs = [pair for folder in args.train for pair in read_pairs(folder)]
    sizes = {"crops": args.crops, "edge": args.edge, "batch": args.batch, "lr": args.lr, "seed": args.seed}
    predict = train(pairs, args.weights, args.classes, **sizes)
    print(json.dumps(sizes | score(predict, read_pairs(args.test), args.classes), indent=2))


if __name__ == "__main__":
    main()
