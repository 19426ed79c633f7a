"""A model as the API describes it."""

from __future__ import annotations

import math

from satseg.serve.api.schema import ModelBand, ModelCard, ModelClass
from satseg.serve.describing import describe
from satseg.serve.served import Served
from satseg.visualization.palette import css


def card(served: Served) -> ModelCard:
    """Return what is known of a model."""
    known = describe(served)
    source = known.spec.inputs[0]
    named = zip(known.spec.class_names, known.spec.palette, strict=True)
    nodata = source.nodata if source.nodata is None or math.isfinite(source.nodata) else None
    return ModelCard(
        name=known.name,
        sha256=known.digest,
        architecture=known.architecture,
        bands=[ModelBand(name=name, dtype=source.dtype) for name in source.bands],
        nodata=nodata,
        gsd_m=source.gsd_m,
        classes=[ModelClass(value=i, name=name, colour=css(colour)) for i, (name, colour) in enumerate(named)],
        nodata_value=known.spec.ignore_index,
        scores={k: v if v is None or math.isfinite(v) else None for k, v in known.scores.items()},
        scores_split=known.split,
        protocol=dict(known.protocol),
    )
