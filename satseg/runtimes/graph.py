"""The network as one graph from raw images to logits, which exporters can follow."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from satseg.environment import package_version
from satseg.models import STRIDE, SegmentationNetwork
from satseg.runtimes.upsampling import join_upsampling
from satseg.spec import InputSpec, is_nodata_per_band

KEY = "satseg"  # of the description in a file's metadata
GRAPH_VERSION = 3
EXAMPLE_SIZE = (97, 150)  # a multiple of nothing, so that no exporter takes padding for needless
Size = tuple[int, int]


class ImageToLogits(nn.Module):
    """Raw images in, logits out, with normalisation, padding and cropping inside.

    Args:
        network: A trained network; it is copied, to the CPU, and not changed.
        replace_pools: Whether pooling to a grid is replaced, too, for exporters that would write it for one size.
        join: Whether upsampling and the convolution behind it become one, which OpenVINO is faster with.
    """

    def __init__(self, network: SegmentationNetwork, *, replace_pools: bool = True, join: bool = False) -> None:
        super().__init__()
        copied = copy.deepcopy(network).to("cpu").to(memory_format=torch.contiguous_format)
        self.normaliser, self.net, self.temperature = copied.normaliser, copied.net, copied.temperature
        _make_exportable(self.net, replace_pools)
        if join:
            join_upsampling(self.net)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Segment float32 images (N, C, H, W) of raw numbers; NaN and nodata mark invalid pixels."""
        height, width = image.shape[-2:]
        valid = self.normaliser.valid(image)
        standardised = ((image - self.normaliser.shift) / self.normaliser.divisor).masked_fill(~valid[:, None], 0.0)
        logits: Tensor = self.net(pad(standardised, (0, -width % STRIDE, 0, -height % STRIDE)))[..., :height, :width]
        return logits if self.temperature == 1 else logits / self.temperature


class PaddedConv(nn.Module):
    """A `Conv2dSame` of timm for inputs that its stride divides: its padding is then the same for all of them.

    The original's depends on the input in a way that exporters cannot follow.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.conv = conv
        geometry = zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
        (top, bottom), (left, right) = (_padding(*axis) for axis in geometry)
        self.padding = (left, right, top, bottom)

    def forward(self, image: Tensor) -> Tensor:
        """Pad and convolve."""
        conv = self.conv
        padded = pad(image, self.padding)
        return conv2d(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


def _padding(kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((kernel - 1) * dilation + 1 - stride, 0)
    return total // 2, total - total // 2


class GridPool(nn.Module):
    """An `AdaptiveAvgPool2d` to several cells, as two products of matrices that are made for the image's size.

    The ONNX exporter would write the original for one size only, as a sum over each cell's pixels.
    """

    def __init__(self, rows: int, cols: int) -> None:
        super().__init__()
        self.rows, self.cols = rows, cols

    def forward(self, image: Tensor) -> Tensor:
        """Return the mean (N, C, rows, cols) of each cell."""
        height, width = image.shape[-2:]
        return _shares(height, self.rows) @ image @ _shares(width, self.cols).T


def _shares(length: int, cells: int) -> Tensor:
    """Return what each pixel of an axis adds to the mean of each cell (cells, length)."""
    pixel, cell = torch.arange(length), torch.arange(cells)[:, None]
    inside = (pixel >= cell * length // cells) & (pixel < ((cell + 1) * length + cells - 1) // cells)
    return inside.float() / inside.float().sum(1, keepdim=True)


def _make_exportable(module: nn.Module, replace_pools: bool) -> None:
    """Replace the layers that exporters cannot follow."""
    for name, child in list(module.named_children()):
        if isinstance(child, Conv2dSame):
            setattr(module, name, PaddedConv(child))
        elif replace_pools and isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
            sides = child.output_size
            rows, cols = sides if isinstance(sides, tuple) else (sides, sides)
            if rows is not None and cols is not None:
                setattr(module, name, GridPool(rows, cols))
        else:
            _make_exportable(child, replace_pools)


def marked(image: Tensor, valid: Tensor, spec: InputSpec) -> Tensor:
    """Return what a graph takes: float32, NaN at pixels that are not valid, and only there.

    Args:
        image: Raw numbers (N, C, H, W), any dtype.
        valid: Boolean (N, H, W).
        spec: Has the nodata value that the graph takes as invalid besides NaN; that of a valid pixel is moved by a
            millionth.
    """
    filled = (image if bool(valid.all()) else torch.where(valid[:, None], image, torch.nan)).float()
    if spec.nodata is None:
        return filled
    alike = filled == spec.nodata
    if not is_nodata_per_band(spec.nodata, spec.dtype):
        alike = alike.all(1, keepdim=True)
    return torch.where(alike, spec.nodata + 1e-6 * max(abs(spec.nodata), 1.0), filled) if bool(alike.any()) else filled


def model_name(network: SegmentationNetwork) -> str:
    """Return decoder and backbone in words."""
    return f"{str(network.config['_target_']).rpartition('.')[2]} on {network.config.get('encoder_name')}"


def describe(network: SegmentationNetwork, size: Size | None) -> str:
    """Return what goes into an exported file's metadata, as JSON.

    Args:
        network: The model.
        size: Height and width in pixels where the file takes images of one size only.
    """
    described: dict[str, Any] = {
        "version": package_version("satseg"),
        "graph_version": GRAPH_VERSION,
        "class_names": list(network.spec.class_names),
        "size": None if size is None else list(size),
        "model": network.config,
        "spec": network.spec.to_dict(),
    }
    described = json.loads(json.dumps(described), parse_constant=lambda _: None)  # JSON has no NaN
    return json.dumps(described, sort_keys=True, ensure_ascii=False)
