"""Whether weights are numbers: those of a diverged training are not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def nonfinite_tensor(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of a tensor that holds NaN or an infinite number, or None; one pass, without a copy.

    Args:
        state: Weights and buffers by name; of a tensor that devices share, the own part is looked at.
    """
    by_device: dict[torch.device, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        local = tensor.detach()
        local = local.to_local() if hasattr(local, "to_local") else local
        if local.is_floating_point() and local.numel():
            local = local.float() if local.itemsize == 1 else local  # torch has no extremes of 8-bit floats
            extremes = torch.stack(torch.aminmax(local))  # NaN is the extreme of whatever has one
            by_device.setdefault(local.device, {})[name] = extremes.isfinite().all()
    for found in by_device.values():  # one wait for each device
        finite = torch.stack(list(found.values())).tolist()
        if not all(finite):
            return list(found)[finite.index(False)]
    return None
