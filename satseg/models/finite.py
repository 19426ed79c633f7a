"""Detection of non-finite weights, such as from a diverged training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def nonfinite_tensor(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of a tensor that holds NaN or infinity, or None; one pass, without a copy.

    Args:
        state: Weights and buffers by name; of sharded tensors only the local part is checked.
    """
    by_device: dict[torch.device, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        local = tensor.detach()
        local = local.to_local() if hasattr(local, "to_local") else local
        if local.is_floating_point() and local.numel():
            local = local.float() if local.itemsize == 1 else local  # torch has no aminmax for 8-bit floats
            extremes = torch.stack(torch.aminmax(local))  # aminmax propagates NaN
            by_device.setdefault(local.device, {})[name] = extremes.isfinite().all()
    for found in by_device.values():  # one synchronisation per device
        finite = torch.stack(list(found.values())).tolist()
        if not all(finite):
            return list(found)[finite.index(False)]
    return None
