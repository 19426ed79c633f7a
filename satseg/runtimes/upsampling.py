"""Fusion of upsampling with the convolution that follows it in U-Net decoders, for faster inference."""

from __future__ import annotations

import torch
from segmentation_models_pytorch import Unet
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.utils.fusion import fuse_conv_bn_eval

# The rows of a 3 x 3 kernel that fall on the same coarse pixel, for each row of the equivalent 4 x 4 kernel.
ROWS = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float32)


class FusedBlock(nn.Module):
    """A U-Net decoder block that does not materialise the upsampled image, with 16 products per pixel instead of 36.

    Nearest-neighbour upsampling followed by a 3 x 3 convolution equals a 4 x 4 transposed convolution with stride 2.
    The skip connection is convolved separately and added.

    Args:
        block: In evaluation mode, without attention, and with batch normalisation.
        upsampled: Number of upsampled channels; the others come from the skip connection.
    """

    def __init__(self, block: UnetDecoderBlock, upsampled: int) -> None:
        super().__init__()
        fused = fuse_conv_bn_eval(block.conv1[0], block.conv1[1])
        coarse, skip = fused.weight.detach().split([upsampled, fused.in_channels - upsampled], dim=1)
        self.upsample = nn.ConvTranspose2d(upsampled, fused.out_channels, 4, stride=2, padding=1)
        kernel = torch.einsum("oikl,rk,sl->iors", coarse, ROWS, ROWS)
        self.upsample.load_state_dict({"weight": kernel, "bias": fused.bias})
        self.skip: nn.Conv2d | None = None
        if channels := skip.shape[1]:
            self.skip = nn.Conv2d(channels, fused.out_channels, 3, padding=1, bias=False)
            self.skip.load_state_dict({"weight": skip})
        self.conv2 = block.conv2

    def forward(self, coarse: Tensor, height: int, width: int, skip_connection: Tensor | None = None) -> Tensor:
        """Return features (N, K, 2H, 2W) of coarse features (N, C, H, W) and a skip connection of twice their size."""
        features = self.upsample(coarse)
        if self.skip is not None:
            features = features + self.skip(skip_connection)
        refined: Tensor = self.conv2(relu(features))
        return refined


def fuse_upsampling(net: nn.Module) -> None:
    """Replace the blocks of a U-Net decoder; other networks and blocks are left unchanged."""
    if not isinstance(net, Unet) or net.encoder.output_stride != 2 ** len(net.decoder.blocks):
        return
    upsampled = net.encoder.out_channels[-1]
    for index, block in enumerate(net.decoder.blocks):
        if _can_fuse(block):
            net.decoder.blocks[index] = FusedBlock(block, upsampled)
        upsampled = block.conv2[0].out_channels


def _can_fuse(block: UnetDecoderBlock) -> bool:
    plain = isinstance(block.conv1[1], nn.BatchNorm2d) and isinstance(block.conv1[2], nn.ReLU)
    return plain and block.interpolation_mode == "nearest" and isinstance(block.attention1.attention, nn.Identity)
