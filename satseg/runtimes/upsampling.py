"""A U-Net's upsampling and the convolution behind it as one, for runtimes that are faster with it."""

from __future__ import annotations

import torch
from segmentation_models_pytorch import Unet
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Which row of a 3 x 3 kernel falls on a pixel of the coarse image, for each row of the 4 x 4 kernel that does the same.
ROWS = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float32)


class JoinedBlock(nn.Module):
    """A block of a U-Net's decoder that never makes the upsampled image, and so computes 16 products instead of 36.

    Repeating pixels and convolving by 3 x 3 is a transposed convolution by 4 x 4 with stride 2. The skip connection is
    convolved by itself and added.

    Args:
        block: In evaluation mode, without attention, and with batch normalisation.
        upsampled: Channels that come from below; the others are the skip connection's.
    """

    def __init__(self, block: UnetDecoderBlock, upsampled: int) -> None:
        super().__init__()
        fused = fuse_conv_bn_eval(block.conv1[0], block.conv1[1])
        below, beside = fused.weight.detach().split([upsampled, fused.in_channels - upsampled], dim=1)
        self.below = nn.ConvTranspose2d(upsampled, fused.out_channels, 4, stride=2, padding=1)
        kernel = torch.einsum("oikl,rk,sl->iors", below, ROWS, ROWS)
        self.below.load_state_dict({"weight": kernel, "bias": fused.bias})
        self.beside: nn.Conv2d | None = None
        if channels := beside.shape[1]:
            self.beside = nn.Conv2d(channels, fused.out_channels, 3, padding=1, bias=False)
            self.beside.load_state_dict({"weight": beside})
        self.conv2 = block.conv2

    def forward(self, coarse: Tensor, height: int, width: int, skip_connection: Tensor | None = None) -> Tensor:
        """Return features (N, K, 2H, 2W) of those below (N, C, H, W) and the skip connection of twice their size."""
        features = self.below(coarse)
        if self.beside is not None:
            features = features + self.beside(skip_connection)
        refined: Tensor = self.conv2(relu(features))
        return refined


def join_upsampling(net: nn.Module) -> None:
    """Replace the blocks of a U-Net's decoder; another network, or a block that differs, is left as it is."""
    if not isinstance(net, Unet) or net.encoder.output_stride != 2 ** len(net.decoder.blocks):
        return
    upsampled = net.encoder.out_channels[-1]
    for index, block in enumerate(net.decoder.blocks):
        if _joinable(block):
            net.decoder.blocks[index] = JoinedBlock(block, upsampled)
        upsampled = block.conv2[0].out_channels


def _joinable(block: UnetDecoderBlock) -> bool:
    plain = isinstance(block.conv1[1], nn.BatchNorm2d) and isinstance(block.conv1[2], nn.ReLU)
    return plain and block.interpolation_mode == "nearest" and isinstance(block.attention1.attention, nn.Identity)
