"""Layers whose activation is a map: lookup by name, probing, and conversion to (N, C, h, w)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from satseg.errors import LayerError

MAX_STRIDE = 64
FINEST = 4  # stride of the finest stage of an outline
WIDER = 32  # pixels by which the second probe is wider
# Layouts that cannot be inferred from a shape alone, by the module that defines the layer's class.
NHWC_MODULES = ("timm.models.swin_transformer", "timm.models.swin_transformer_v2")
TOKEN_MODULES = ("timm.models.vision_transformer", "timm.models.pvt_v2")
INDEX = re.compile(r"\[(-?\d+)\]")
ENCODER = "encoder."


@dataclass(frozen=True)
class Layer:
    """A layer whose activation is a map.

    Attributes:
        name: Its name in the network.
        module: The layer.
        layout: `NCHW`, `NHWC` or `tokens`.
        size: Height and width of the map.
        prefix: Tokens before the map's, such as a class token.
    """

    name: str
    module: nn.Module
    layout: str
    size: tuple[int, int]
    prefix: int = 0

    def to_maps(self, activation: Tensor) -> Tensor:
        """Return the activation as (N, C, h, w)."""
        if self.layout == "NHWC":
            return activation.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            columns = activation[:, self.prefix :].transpose(1, 2)
            return columns.reshape(*columns.shape[:2], *self.size)
        return activation

    def from_maps(self, maps: Tensor, activation: Tensor) -> Tensor:
        """Return maps (N, C, h, w) in the activation's own layout, with its prefix tokens."""
        if self.layout == "NHWC":
            return maps.permute(0, 2, 3, 1)
        if self.layout == "tokens":
            return torch.cat([activation[:, : self.prefix], maps.flatten(2).transpose(1, 2)], 1)
        return maps

    @contextmanager
    def tapped(self) -> Iterator[nn.Module]:
        """Context manager for a module through which the layer's maps (N, C, h, w) pass."""
        tap = nn.Identity()

        def through(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return self.from_maps(tap(self.to_maps(output)), output)

        handle = self.module.register_forward_hook(through)
        try:
            yield tap
        finally:
            handle.remove()


def find_layer(net: nn.Module, name: str, image: Tensor) -> Layer:
    """Return a layer that can be explained by its activation.

    Args:
        net: The network of an encoder, a decoder and a head.
        name: As in `named_modules`, or with `[index]`; `auto` and `encoder` are the deepest encoder layer that is
            used, `decoder` the input of the head.
        image: Input of the network (1, C, H, W); the output is discarded.

    Raises:
        LayerError: If there is no such layer, or its activation is no map; lists usable layers.
    """
    found, modules = usable_layers(net, image), dict(net.named_modules())
    wanted = _resolve(net, name, list(found))
    if wanted not in found:
        reason = "its activation is no map of the image" if wanted in modules else "there is no such layer"
        raise LayerError(f"layer={name}: {reason}; usable layers are {', '.join(_main(found))}.")
    return found[wanted]


def outline(net: nn.Module, image: Tensor) -> list[Layer]:
    """Return the encoder's deepest layer at each stride from 4 up, finest first, and the head's input.

    Raises:
        LayerError: If no layer's activation is a map.
    """
    by_size: dict[tuple[int, int], Layer] = {}
    found = usable_layers(net, image)
    for name, layer in found.items():
        if name.startswith(ENCODER) and image.shape[-1] >= FINEST * layer.size[1]:
            other = by_size.get(layer.size)
            if other is None or name.count(".") <= other.name.count("."):  # a whole stage rather than a part of one
                by_size[layer.size] = layer  # of equal layers, later ones are deeper
    stages = sorted(by_size.values(), key=lambda layer: -layer.size[1])
    stages += [found["decoder"]] if "decoder" in found else []
    if not stages:
        raise LayerError("No layer of this network has an activation that is a map of the image.")
    return stages


def usable_layers(net: nn.Module, image: Tensor) -> dict[str, Layer]:
    """Return the layers whose activation is certainly a map that the output depends on, in order of completion."""
    outputs, used = _trace(net, image.detach().clone().requires_grad_())
    wider, _ = _trace(net, pad(image, (0, WIDER)))
    modules = dict(net.named_modules())
    prefix = int(getattr(getattr(getattr(net, "encoder", None), "model", None), "num_prefix_tokens", 0))
    found = {}
    for candidate, calls in outputs.items():
        layer = _describe(candidate, modules[candidate], calls, image.shape[-2:], prefix)
        if layer is None or candidate not in used:
            continue
        if layer.layout != "NCHW" or _grows(calls, wider.get(candidate), layer, image):
            found[candidate] = layer
    return found


def _trace(net: nn.Module, image: Tensor) -> tuple[dict[str, list[Any]], set[str]]:
    """Return the output shapes of each layer in order of completion, and the layers that the output depends on.

    Some layers are computed but unused, such as a backbone's deep stages under a PSPNet.

    Returns:
        The shapes of each layer's outputs, None for outputs that are no tensor; and, if the image requires a gradient,
        the names of the layers that contributed to the network's output.
    """
    outputs: dict[str, list[Any]] = {}
    nodes: dict[str, Any] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs.setdefault(name, []).append(output.shape if isinstance(output, Tensor) else None)
            nodes[name] = output.grad_fn if isinstance(output, Tensor) else None

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in net.named_modules() if name]
    try:
        with torch.set_grad_enabled(image.requires_grad):
            reached = _reached(net(image).grad_fn)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, {name for name, node in nodes.items() if node in reached}


def _reached(last: Any) -> set[Any]:
    """Return the autograd nodes that lead to the last one, which is cheaper than computing gradients."""
    reached, waiting = set(), [last]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in reached:
            reached.add(node)
            waiting.extend(before for before, _ in node.next_functions)
    return reached


def _describe(name: str, module: nn.Module, calls: list[Any], shape: torch.Size, prefix: int) -> Layer | None:
    """Return the layer if it outputs one map in a known layout, else None."""
    if len(calls) != 1 or calls[0] is None or not calls[0] or calls[0][0] != 1:
        return None
    output, origin = calls[0], type(module).__module__
    if len(output) == 3 and origin in TOKEN_MODULES:
        return _tokens(name, module, output[1], shape, prefix)
    if len(output) != 4:
        return None
    layout = "NHWC" if origin in NHWC_MODULES else "NCHW"
    height, width = output[1:3] if layout == "NHWC" else output[2:]
    return Layer(name, module, layout, (height, width)) if _plausible((height, width), shape) else None


def _grows(calls: list[Any], wider: list[Any] | None, layer: Layer, image: Tensor) -> bool:
    """Return whether a wider image widens the map only: channels that look like columns do not grow."""
    if not wider or wider[0] is None:
        return False
    step, rest = divmod(WIDER * layer.size[1], image.shape[-1])
    return rest == 0 and tuple(wider[0]) == (*calls[0][:3], calls[0][3] + step)


def _tokens(name: str, module: nn.Module, count: int, shape: torch.Size, prefix: int) -> Layer | None:
    for before in (prefix, 0):
        for stride in range(1, MAX_STRIDE + 1):
            size = (shape[0] // stride, shape[1] // stride)
            if _plausible(size, shape) and size[0] * size[1] == count - before:
                return Layer(name, module, "tokens", size, before)
    return None


def _plausible(size: tuple[int, int], shape: torch.Size) -> bool:
    """Return whether a map of this size has the same integer stride along both axes."""
    if not all(size) or shape[0] % size[0] or shape[1] % size[1]:
        return False
    return shape[0] // size[0] == shape[1] // size[1] <= MAX_STRIDE


def _resolve(net: nn.Module, name: str, maps: list[str]) -> str:
    if name in ("auto", "encoder"):
        return next((n for n in reversed(maps) if n.startswith(ENCODER)), name)
    parts: list[str] = []
    modules = dict(net.named_modules())
    for part in INDEX.sub(r".\1", name).split("."):
        parent = modules.get(".".join(parts))
        if re.fullmatch(r"-\d+", part) and parent is not None:
            children = [n for n, _ in parent.named_children()]
            part = children[int(part)] if len(children) >= -int(part) else part
        parts.append(part)
    return ".".join(parts)


def _main(found: dict[str, Layer]) -> list[str]:
    """Return the names of the main layers, without parts of a stage."""
    return [name for name in found if name.count(".") <= (2 if name.startswith(ENCODER) else 1)][-20:] or list(found)[
        -20:
    ]
