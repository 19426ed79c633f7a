"""Ablation of the plain loop in short trainings, one change at a time.

    python scripts/benchmarks/defaults_ablation.py --data defaults/data/chip --decoder-lr 3e-3 --warmup 0.05

From one training it reports the test mIoU of the last weights, of weight averages with different decays, and of the
best of ten validations with and without averaging, so that these differences exclude the noise between trainings.
`--data` is a folder prepared by `defaults.py`; only training images are used for training, and the centre of test
images is scored.
"""

import argparse
import copy
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plain_loop
import segmentation_models_pytorch as smp
import torch
from defaults_data import SETS
from plain_loop import IGNORE, STRIDE, Pairs
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

Standardise = Callable[[np.ndarray], Tensor]

EDGE, BATCH, VALIDATIONS = 64, 8, 10
MIDDLE = {"dubai": 192, "embedded": 384, "embedded_bands": 384, "chip": 384}
LONGEST = 0.999  # of the share of an average that a step keeps
RAMP = "ema"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/tf_efficientnet_lite0.safetensors"))
    parser.add_argument("--crops", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone-lr", type=float, default=1e-3)
    parser.add_argument("--decoder-lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=float, default=0.0, help="share of all steps")
    parser.add_argument("--zoom", type=float, nargs=2, help="range of magnifications")
    parser.add_argument("--light", type=float, default=0.0, help="largest relative change of contrast")
    parser.add_argument(
        "--adapt", default="repeat", help="repeat, mean, or numbers from 0 of red, green and blue: 3,2,1"
    )
    args = parser.parse_args()
    options = {key: value for key, value in vars(args).items() if key not in ("weights", "data")}
    print(json.dumps({"data": args.data.name, **options} | train(args)))


def build(args: argparse.Namespace, bands: int, classes: int) -> nn.Module:
    """Build the network of the plain loop, with the first layer adapted."""
    net = smp.Unet(
        "tu-tf_efficientnet_lite0",
        encoder_weights="imagenet",
        in_channels=bands,
        classes=classes,
        pretrained_cfg_overlay={"file": str(args.weights)},
    )
    if args.adapt != "repeat":
        from satseg.models.input_layer import adapt_input, rgb_backbone

        source = {"pretrained_cfg_overlay": {"file": str(args.weights)}}
        rule = args.adapt if args.adapt == "mean" else args.adapt.split(",")
        names = [str(number) for number in range(bands)]
        adapt_input(net.encoder, rule, names, lambda: rgb_backbone("tu-tf_efficientnet_lite0", source))
    return net.to(memory_format=torch.channels_last)


def middle(pairs: Pairs, edge: int) -> Pairs:
    """Crop the centre of images."""
    cut = []
    for image, mask in pairs:
        top, left = (max(0, (length - edge) // 2) for length in mask.shape)
        cut.append((image[:, top : top + edge, left : left + edge], mask[top : top + edge, left : left + edge]))
    return cut


def train(args: argparse.Namespace) -> dict[str, float]:
    """Train once; return the scores of all its weights."""
    torch.manual_seed(args.seed)
    random = np.random.default_rng(args.seed)
    name, classes = args.data.name, len(SETS[args.data.name][1])
    own, val, test = (plain_loop.read_pairs(args.data / part) for part in ("mine/train", "mine/val", "test"))
    val, test = middle(val, MIDDLE[name]), middle(test, MIDDLE[name])
    standardise = plain_loop.standardiser(own)
    net = build(args, len(own[0][0]), classes)
    optimizer = torch.optim.AdamW(groups(net, args.backbone_lr, args.decoder_lr))
    cross_entropy = nn.CrossEntropyLoss(ignore_index=IGNORE)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)
    areas = np.array([mask.size for _, mask in own], float)
    steps = args.crops // BATCH
    warmup = round(args.warmup * steps)
    memories = {RAMP: LONGEST} | {f"ema over {share:.0%}": 1 - 1 / max(2, share * steps) for share in (0.02, 0.05, 0.1)}
    averages = {memory: copy.deepcopy(net) for memory in memories}
    best = {"best": (-1.0, net), "best ema": (-1.0, net)}

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * rate(step, warmup, steps)
        patches = [patch(args, own, areas / areas.sum(), standardise, random) for _ in range(BATCH)]
        images, target = (torch.stack(parts) for parts in zip(*patches, strict=True))
        logits = net(images.contiguous(memory_format=torch.channels_last))
        optimizer.zero_grad()
        (cross_entropy(logits, target) + dice(logits, target)).backward()
        optimizer.step()
        for memory, longest in memories.items():
            kept = min(longest, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(numbers(averages[memory]), numbers(net), 1 - kept)
        if (step + 1) % max(1, steps // VALIDATIONS) == 0:
            for kind, one in (("best", net), ("best ema", averages[RAMP])):
                if (scored := score(one, val, standardise, classes)) > best[kind][0]:
                    best[kind] = scored, copy.deepcopy(one)
    kinds = {"last": net, **averages, **{kind: one for kind, (_, one) in best.items()}}
    return {kind: round(score(one, test, standardise, classes), 4) for kind, one in kinds.items()}


def score(net: nn.Module, pairs: Pairs, standardise: Standardise, classes: int) -> float:
    """Return the mIoU of a network, and keep it in training mode."""
    net.eval()

    def predict(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[1:]
        with torch.no_grad():
            logits = net(pad(standardise(image[None]), (0, -width % STRIDE, 0, -height % STRIDE)))
        return np.asarray(logits[0, :, :height, :width].argmax(0))

    found = plain_loop.score(predict, pairs, classes)["miou"]
    net.train()
    return float(found)  # type: ignore[arg-type]


def groups(net: nn.Module, backbone: float, decoder: float) -> list[dict[str, object]]:
    """Group the weights by learning rate and weight decay; norms and biases have none."""
    encoder: nn.Module = net.encoder  # type: ignore[assignment]
    inner = {id(p) for p in encoder.parameters()}
    parts = [(list(encoder.parameters()), backbone), ([p for p in net.parameters() if id(p) not in inner], decoder)]
    return [
        {"params": [p for p in own if (p.ndim > 1) == decays], "base": lr, "weight_decay": 0.01 * decays}
        for own, lr in parts
        for decays in (True, False)
    ]


def rate(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then cosine decay."""
    return (
        (step + 1) / (warmup + 1) if step < warmup else (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
    )


def patch(
    args: argparse.Namespace, pairs: Pairs, shares: np.ndarray, standardise: Standardise, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Crop a patch, and augment its scale and brightness."""
    zoom = math.exp(random.uniform(*np.log(args.zoom))) if args.zoom else 1.0
    image, mask = plain_loop.crop(pairs, shares, round(EDGE / zoom), random)
    values = standardise(np.ascontiguousarray(image)[None])
    classes = torch.from_numpy(np.ascontiguousarray(mask)).long()
    if len(classes) != EDGE:
        values = interpolate(values, size=(EDGE, EDGE), mode="bilinear", align_corners=False)
        classes = interpolate(classes[None, None].float(), size=(EDGE, EDGE), mode="nearest")[0, 0].long()
    if args.light:
        mean = values.mean((2, 3), keepdim=True)
        contrast, shift = (random.uniform(-args.light, args.light) for _ in range(2))
        values = mean + (values - mean) * (1 + contrast) + 0.8 * shift  # of deviations
    return values[0], classes


def numbers(net: nn.Module) -> list[Tensor]:
    """Return weights and statistics that can be averaged."""
    return [t for t in net.state_dict().values() if t.is_floating_point()]


if __name__ == "__main__":
    main()
