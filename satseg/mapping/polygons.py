"""Vectorised polygonisation of a block of a class map.

GDAL's polygonizer omits the vertex where three polygons meet on a straight line, so neighbouring polygons do not share
all vertices of their common border. Simplification without gaps and merging across blocks need shared vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.ndimage import label
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from satseg.mapping.classmap import INVALID

# The sides of a pixel, clockwise: top, right, bottom, left; walking along a side, the pixel is on the right.
SIDES = range(4)
STEP = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])  # row and column step along a side
BEGIN = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])  # start corner of a side, as row and column


@dataclass(frozen=True)
class Pieces:
    """The connected areas of a block.

    Attributes:
        labels: int32 (height, width): index of the piece plus one; 0 where the map is invalid.
        polygons: One per piece, in pixel coordinates (column, row) of pixel corners.
        values: The class of each piece.
        areas: Area of each piece; `cut` sets it in pixels.
    """

    labels: np.ndarray
    polygons: np.ndarray
    values: np.ndarray
    areas: np.ndarray


def cut(classes: np.ndarray, row: int = 0, col: int = 0) -> Pieces:
    """Return the connected areas of a block as polygons; pixels that touch only at a corner are not connected.

    Each polygon has a vertex wherever its border turns or meets the border of another polygon, including those outside
    the block, so that neighbours share all vertices of their common border.

    Args:
        classes: int16 (height + 2, width + 2): the block with a margin of one pixel; -1 where invalid or
            outside the map.
        row: Row of the block's first pixel in the map.
        col: Column of that pixel.
    """
    labels, count = _connected(classes[1:-1, 1:-1])
    values = np.full(count + 1, INVALID, np.int16)
    values[labels.ravel()] = classes[1:-1, 1:-1].ravel()
    polygons = _polygons(np.pad(labels, 1), _nodes(classes), (row - 1, col - 1)) if count else np.empty(0, object)
    return Pieces(labels, polygons, values[1:], np.bincount(labels.ravel(), minlength=count + 1)[1:].astype(float))


def _connected(classes: np.ndarray) -> tuple[np.ndarray, int]:
    """Label the connected areas of all classes at once, on a grid of pixels and of the links between equal pixels."""
    height, width = classes.shape
    valid = classes != INVALID
    grid = np.zeros((2 * height - 1, 2 * width - 1), bool)
    grid[::2, ::2] = valid
    grid[::2, 1::2] = (classes[:, 1:] == classes[:, :-1]) & valid[:, 1:]
    grid[1::2, ::2] = (classes[1:] == classes[:-1]) & valid[1:]
    labels, count = label(grid)
    return labels[::2, ::2].copy(), int(count)


def _nodes(classes: np.ndarray) -> np.ndarray:
    """Return the corners where three or four borders meet, (height + 1, width + 1); the block edge is a border."""
    upright = classes[:, 1:] != classes[:, :-1]
    level = classes[1:] != classes[:-1]
    left, right, above, below = level[:, :-1].copy(), level[:, 1:].copy(), upright[:-1].copy(), upright[1:].copy()
    for arm in (left, right):
        arm[[0, -1]] = True
    for arm in (above, below):
        arm[:, [0, -1]] = True
    nodes: np.ndarray = left.astype(np.int8) + right + above + below >= 3
    return nodes


def _polygons(labels: np.ndarray, nodes: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
    """Trace all rings; a run is a straight part of a label's border, from one vertex to the next."""
    side, first, last = _runs(labels, nodes)
    width = labels.shape[1]
    owner = labels.ravel()[first]
    ring, place, leaders = _rings(_following(labels.ravel(), width, side, first, last))
    # A label's exterior ring contains its topmost run, and runs are numbered from the top: its leader comes first.
    order = np.lexsort((leaders, owner[leaders]))
    sizes = np.bincount(ring)[order] + 1  # rings are closed
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    start = np.empty_like(order)
    start[order] = offsets[:-1]
    corners = np.stack([first % width, first // width], axis=1) + BEGIN[side][:, ::-1] + origin[::-1]
    points = np.empty((offsets[-1], 2))
    points[start[ring] + place] = corners
    points[offsets[1:] - 1] = corners[leaders[order]]
    groups = np.concatenate([[0], np.cumsum(np.bincount(owner[leaders])[1:])])
    polygons: np.ndarray = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, (offsets, groups))
    return polygons


def _runs(labels: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the side of each run, and the flat indices of its first and last pixel."""
    parts = []
    for side in SIDES:
        border = (labels != _neighbour(labels, STEP[side - 1])) & (labels > 0)
        before, after = _neighbour(border, -STEP[side]), _neighbour(border, STEP[side])
        begins = border & ~(before & ~_at(nodes, BEGIN[side]))
        ends = border & ~(after & ~_at(nodes, BEGIN[(side + 1) % 4]))
        first, last = _scan(begins, side), _scan(ends, side)  # runs do not overlap: starts and ends have the same order
        parts.append((np.full(len(first), side), first, last))
    sides, firsts, lasts = (np.concatenate(p) for p in zip(*parts, strict=True))
    return sides, firsts, lasts


def _neighbour(array: np.ndarray, step: np.ndarray) -> np.ndarray:
    return np.roll(array, tuple(-step), (0, 1))  # wrapped values end up in the padding, which has no border


def _at(nodes: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return for each pixel, including the padding, whether the given corner is a node."""
    top, left = 1 - corner
    return np.pad(nodes, ((top, 1 - top), (left, 1 - left)))


def _scan(where: np.ndarray, side: int) -> np.ndarray:
    """Return flat indices in the direction of a side: by rows or by columns."""
    if side % 2 == 0:
        return np.flatnonzero(where)
    cols, rows = np.nonzero(where.T)
    flat: np.ndarray = rows * where.shape[1] + cols
    return flat


def _following(labels: np.ndarray, width: int, side: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return the run that follows each run: left if the label continues there, else straight on, else right.

    Turning left first keeps rings from touching themselves if an area touches itself at a corner.
    """
    step = STEP @ (width, 1)
    ahead = last + step[side]
    across = ahead + step[side - 1]
    left, straight = labels[across] == labels[last], labels[ahead] == labels[last]
    pixel = np.where(left, across, np.where(straight, ahead, last))
    turn = np.where(left, -1, np.where(straight, 0, 1))
    numbers = np.empty((4, labels.size), np.int32)
    numbers[side, first] = np.arange(len(first))
    found: np.ndarray = numbers[(side + turn) % 4, pixel]
    return found


def _rings(following: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ring of each run, its position in it, and the leader of each ring: its lowest run, at position 0."""
    count = len(following)
    graph = csr_array((np.ones(count, np.int8), following, np.arange(count + 1)), shape=(count, count))
    num_rings, ring = connected_components(graph)
    leaders = np.empty(num_rings, np.int64)
    leaders[ring[::-1]] = np.arange(count)[::-1]  # the last assignment wins
    back = np.empty(count, np.int64)
    back[following] = np.arange(count)
    place = np.ones(count, np.int64)
    place[leaders], back[leaders] = 0, leaders
    active = np.flatnonzero(back != leaders[ring])
    while active.size:  # pointer jumping: the distance doubles every round, until the leader is reached
        target = back[active]
        place[active] += place[target]
        back[active] = back[target]
        active = active[back[active] != leaders[ring[active]]]
    return ring, place, leaders
