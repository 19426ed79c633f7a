"""A plain training loop on the Dubai tiles without satseg, as a baseline for `experiment=dubai_baseline`.

U-Net on an ImageNet backbone, random 256² crops, cross-entropy plus Dice, AdamW, cosine schedule, flips and rotations
by 90°, for a fixed CPU time, so that other load on the machine does not count. It trains on tiles 1, 3, 4, 5 and 7 and
scores tiles 6 and 8 once.

    python scripts/plain_loop_dubai.py --root data/dubai --weights tf_efficientnet_lite0.safetensors --minutes 60
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image

NAMES = ["land", "water", "building", "vegetation", "road"]
COLOURS = [(132, 41, 246), (226, 169, 41), (60, 16, 152), (254, 221, 58), (110, 193, 228)]
IGNORE, CROP, BATCH, LEARNING_RATE = 255, 256, 8, 1e-3


def load(root: Path, tiles: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    for tile in tiles:
        for path in sorted((root / f"Tile {tile}" / "images").glob("*.jpg")):
            colours = np.array(Image.open(root / f"Tile {tile}" / "masks" / f"{path.stem}.png").convert("RGB"))
            mask = np.full(colours.shape[:2], IGNORE, np.uint8)
            for index, colour in enumerate(COLOURS):
                mask[(colours == colour).all(-1)] = index
            pairs.append((np.array(Image.open(path).convert("RGB")), mask))
    return pairs


def crop(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    sizes = [mask.size for _, mask in pairs]
    image, mask = random.choices(pairs, weights=sizes)[0]
    top, left = random.randint(0, mask.shape[0] - CROP), random.randint(0, mask.shape[1] - CROP)
    image, mask = image[top : top + CROP, left : left + CROP], mask[top : top + CROP, left : left + CROP]
    turns = random.randint(0, 3)
    image, mask = np.rot90(image, turns), np.rot90(mask, turns)
    return (image[:, ::-1], mask[:, ::-1]) if random.random() < 0.5 else (image, mask)


def to_tensor(images: list[np.ndarray]) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack([np.ascontiguousarray(i) for i in images]))
    return (stacked.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5  # the backbone's mean and std


@torch.no_grad()
def score(model: torch.nn.Module, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, object]:
    model.eval()
    matrix = np.zeros((len(NAMES), len(NAMES)), np.int64)
    for image, mask in pairs:
        height, width = mask.shape
        pad = torch.nn.functional.pad(to_tensor([image]), (0, -width % 32, 0, -height % 32))
        predicted = model(pad)[0, :, :height, :width].argmax(0).numpy()
        valid = mask != IGNORE
        matrix += np.bincount(mask[valid] * len(NAMES) + predicted[valid], minlength=matrix.size).reshape(matrix.shape)
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    return {
        "miou": float(iou.mean()),
        "iou": dict(zip(NAMES, iou.tolist(), strict=True)),
        "accuracy": float(np.trace(matrix) / matrix.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--output", type=Path, default=Path("plain_loop_dubai.json"))
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    train = load(args.root, (1, 3, 4, 5, 7))
    model = smp.Unet(
        "tu-tf_efficientnet_lite0",
        encoder_weights="imagenet",
        classes=len(NAMES),
        pretrained_cfg_overlay={"file": str(args.weights)},
    )
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)
    cross_entropy = torch.nn.CrossEntropyLoss(ignore_index=IGNORE)
    steps, budget = 0, args.minutes * 60
    while (elapsed := time.process_time() / torch.get_num_threads()) < budget:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * elapsed / budget)) / 2
        images, masks = zip(*[crop(train) for _ in range(BATCH)], strict=True)
        target = torch.from_numpy(np.stack(masks)).long()
        logits = model(to_tensor(list(images)))
        loss = cross_entropy(logits, target) + dice(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        if steps % 50 == 0:
            print(f"{elapsed / 60:5.1f} min, {steps * BATCH} crops, loss {loss.item():.3f}", flush=True)
    result = {"minutes": elapsed / 60, "crops": steps * BATCH}
    result |= {"val": score(model, load(args.root, (2,))), "test": score(model, load(args.root, (6, 8)))}
    args.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
