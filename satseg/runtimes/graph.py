"""The network as one exportable graph from raw images to logits."""

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
from satseg.runtimes.upsampling import fuse_upsampling
from satseg.spec import InputSpec, is_nodata_per_band

KEY = "satseg"  # of the description in the metadata of a file
GRAPH_VERSION = 3
EXAMPLE_SIZE = (97, 150)  # not a multiple of the stride, so that no exporter optimises the padding away
Size = tuple[int, int]


class ImageToLogits(nn.Module):
    """Module from raw images to logits, including normalisation, padding and cropping.

    Args:
        network: A trained network; it is copied to the CPU and not changed.
        replace_pools: Also replace pooling to a grid, for exporters that would fix its input size.
        fuse: Fuse upsampling with the convolution that follows; OpenVINO is faster with it.
    """

    def __init__(self, network: SegmentationNetwork, *, replace_pools: bool = True, fuse: bool = False) -> None:
        super().__init__()
        copied = copy.deepcopy(network).to("cpu").to(memory_format=torch.contiguous_format)
        self.normaliser, self.net, self.temperature = copied.normaliser, copied.net, copied.temperature
        _make_exportable(self.net, replace_pools)
        if fuse:
            fuse_upsampling(self.net)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Segment float32 images (N, C, H, W) of raw values; NaN and nodata mark invalid pixels."""
        height, width = image.shape[-2:]
        valid = self.normaliser.valid(image)
        standardised = ((image - self.normaliser.shift) / self.normaliser.divisor).masked_fill(~valid[:, None], 0.0)
        logits: Tensor = self.net(pad(standardised, (0, -width % STRIDE, 0, -height % STRIDE)))[..., :height, :width]
        return logits if self.temperature == 1 else logits / self.temperature


class PaddedConv(nn.Module):
    """A `Conv2dSame` of timm with constant padding, for input sizes that are multiples of its stride.

    The padding of the original depends on the input size in a way that exporters cannot trace.
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
    """An `AdaptiveAvgPool2d` to several cells, as two matrix products with matrices computed from the image size.

    The ONNX exporter writes the original for one input size only, as sums over the pixels of each cell.
    """

    def __init__(self, rows: int, cols: int) -> None:
        super().__init__()
        self.rows, self.cols = rows, cols

    def forward(self, image: Tensor) -> Tensor:
        """Return the mean (N, C, rows, cols) of each cell."""
        height, width = image.shape[-2:]
        return _shares(height, self.rows) @ image @ _shares(width, self.cols).T


def _shares(length: int, cells: int) -> Tensor:
    """Return the weight of each pixel along an axis in the mean of each cell, (cells, length)."""
    pixel, cell = torch.arange(length), torch.arange(cells)[:, None]
    inside = (pixel >= cell * length // cells) & (pixel < ((cell + 1) * length + cells - 1) // cells)
    return inside.float() / inside.float().sum(1, keepdim=True)


def _make_exportable(module: nn.Module, replace_pools: bool) -> None:
    """Replace the layers that exporters cannot trace."""
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


def mark_invalid(image: Tensor, valid: Tensor, spec: InputSpec) -> Tensor:
    """Return the input of a graph: float32, NaN at invalid pixels and nowhere else.

    Args:
        image: Raw values (N, C, H, W), any dtype.
        valid: Boolean (N, H, W).
        spec: Has the nodata value, which the graph treats as invalid as well; valid pixels with this value are shifted
            by a relative 1e-6.
    """
    filled = (image if bool(valid.all()) else torch.where(valid[:, None], image, torch.nan)).float()
    if spec.nodata is None:
        return filled
    is_nodata = filled == spec.nodata
    if not is_nodata_per_band(spec.nodata, spec.dtype):
        is_nodata = is_nodata.all(1, keepdim=True)
    if not bool(is_nodata.any()):
        return filled
    return torch.where(is_nodata, spec.nodata + 1e-6 * max(abs(spec.nodata), 1.0), filled)


def model_name(network: SegmentationNetwork) -> str:
    """Return the names of decoder and backbone as text."""
    return f"{str(network.config['_target_']).rpartition('.')[2]} on {network.config.get('encoder_name')}"


def describe(network: SegmentationNetwork, size: Size | None) -> str:
    """Return the metadata of an exported file as JSON.

    Args:
        network: The model.
        size: Height and width in pixels if the file has a fixed input size.
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
