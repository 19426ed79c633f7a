"""Overlapping windows for images of an evaluation."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from satseg.inference import windows
from satseg.inference.windows import plan, segment


@given(st.integers(1, 5000), st.integers(2, 1200), st.data())
def test_kept_parts_are_contiguous_and_windows_lie_inside_the_image(
    length: int, window: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, window // 2))
    pieces = plan(length, window, overlap)
    assert pieces[0].keep_start == 0 and pieces[-1].keep_stop == length
    assert all(a.keep_stop == b.keep_start for a, b in pairwise(pieces))
    for piece in pieces:
        assert 0 <= piece.start <= piece.keep_start < piece.keep_stop <= piece.stop <= length
        assert piece.stop - piece.start == min(length, window)


@given(st.integers(1, 4000), st.integers(64, 600))
def test_kept_pixels_are_at_least_half_an_overlap_from_inner_window_borders(length: int, window: int) -> None:
    overlap = window // 4
    for piece in plan(length, window, overlap):
        assert piece.start == 0 or piece.keep_start - piece.start >= overlap // 2
        assert piece.stop == length or piece.stop - piece.keep_stop >= overlap // 2 - 1


class Pointwise(nn.Module):
    class spec:
        num_classes = 2

    def forward(self, image: Tensor, valid: Tensor) -> Tensor:
        return torch.stack([image[:, 0].float(), valid.float()], 1)


def test_windows_do_not_change_the_result_of_a_pointwise_network(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    image, valid = torch.randint(0, 255, (2, 3, 301, 130)), torch.rand(2, 301, 130) > 0.5
    whole = segment(Pointwise(), image, valid)
    monkeypatch.setattr(windows, "MAX_PIXELS", 100)
    monkeypatch.setattr(windows, "WINDOW", 64)
    monkeypatch.setattr(windows, "OVERLAP", 16)
    assert torch.equal(segment(Pointwise(), image, valid), whole)
