"""Detection of TIFF blocks longer than the header says, for which GDAL would return uninitialised memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from rasterio.enums import Compression, Interleaving

CHUNK = 2**16  # bytes decompressed at a time


def check_deflated_blocks(source: Any, path: Path, *, every: bool = False) -> None:
    """Check that the deflated blocks of an open TIFF are no longer than its header says.

    libtiff accepts a longer block without an error and leaves the pixels unset. The first block reveals a damaged
    number of samples, data type or block size.

    Args:
        source: The raster.
        path: Its file.
        every: Check all blocks, which takes about as long as reading them.

    Raises:
        ValueError: If a block is longer.
        OSError: If the file cannot be read.
    """
    if source.driver != "GTiff" or source.compression != Compression.deflate:
        return
    most = _packed_bytes(source)
    with path.open("rb") as file:
        for offset, size in _blocks(source, every):
            file.seek(offset)
            if _is_longer(file, size, most):
                raise ValueError("a block holds more than the header says")


def _is_longer(file: IO[bytes], size: int, most: int) -> bool:
    """Return True if the next `size` bytes decompress to more than `most` bytes, in bounded memory."""
    unpacker = zlib.decompressobj()
    while size > 0 and not unpacker.eof and (data := file.read(min(size, CHUNK))):
        size -= len(data)
        full = True
        while full:
            try:
                piece = unpacker.decompress(data, CHUNK)
            except zlib.error:  # GDAL reports it on reading the block
                return False
            data, full = unpacker.unconsumed_tail, len(piece) == CHUNK
            most -= len(piece)
            if most < 0:
                return True
    return False


def block_bytes(source: Any) -> int:
    """Return the bytes of a tile or strip of an open raster in memory, with whole bytes per sample."""
    height, width, bands = _block_shape(source)
    return height * width * bands * _item_bytes(source)


def _packed_bytes(source: Any) -> int:
    """Return the bytes of a decompressed block as stored, for example with one bit per sample of a mask."""
    height, width, bands = _block_shape(source)
    if height == 1 and source.get_tag_item("BLOCK_SIZE_0_1", "TIFF", bidx=1) is None:
        height = int(source.height)  # GDAL splits a single strip into rows
    bits = int(source.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8 * _item_bytes(source)))
    return height * -(-width * bands * bits // 8)


def _block_shape(source: Any) -> tuple[int, int, int]:
    height, width = source.block_shapes[0]
    return int(height), int(width), source.count if source.interleaving == Interleaving.pixel else 1


def _item_bytes(source: Any) -> int:
    # NumPy has no complex int16; it is as long as int32.
    return int(np.dtype(source.dtypes[0].replace("complex_int16", "int32")).itemsize)


def _blocks(source: Any, every: bool) -> Iterator[tuple[int, int]]:
    """Yield offset and size of blocks in the file; a sparse file lacks some."""
    bands = [1] if source.interleaving == Interleaving.pixel else source.indexes
    height, width = source.block_shapes[0]
    down, across = (-(-source.height // height), -(-source.width // width)) if every else (1, 1)
    for band in bands if every else bands[:1]:
        for row in range(down):
            for column in range(across):
                offset = source.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
                size = source.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
                if offset and size:
                    yield int(offset), int(size)
