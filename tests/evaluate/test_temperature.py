"""Calibration error against its definition, and temperature scaling."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from satseg.errors import DataError
from satseg.evaluate.metrics import BINS, Reliability
from satseg.evaluate.temperature import fit_temperature, sample_pixels
from satseg.spec import IGNORE_INDEX


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_the_calibration_error_equals_its_definition(seed: int, classes: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 6, 7, generator=random)
    mask = torch.randint(0, classes, (2, 6, 7), generator=random)
    mask[0, 0] = IGNORE_INDEX
    valid = torch.rand(2, 6, 7, generator=random) > 0.2
    reliability = Reliability.empty() + Reliability.of(logits, mask, valid)

    probabilities = logits.double().softmax(1).numpy()
    counted = (valid & (mask != IGNORE_INDEX)).numpy()
    confidence, correct = probabilities.max(1)[counted], (probabilities.argmax(1) == mask.numpy())[counted]
    edges = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    gaps = [abs(confidence[edges == b].sum() - correct[edges == b].sum()) for b in range(BINS)]
    assert reliability.counts.sum() == counted.sum()
    assert reliability.error == pytest.approx(sum(gaps) / counted.sum(), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_scaling_calibrates_held_out_pixels(temperature: float) -> None:
    random = torch.Generator().manual_seed(0)
    calibrated = 2 * torch.randn(1, 4, 400, 400, generator=random)
    mask = torch.distributions.Categorical(logits=calibrated.movedim(1, -1)).sample()
    logits, valid = calibrated * temperature, torch.ones(1, 400, 400, dtype=torch.bool)
    top, bottom = (slice(None), slice(None), slice(0, 200)), (slice(None), slice(None), slice(200, None))
    fitted = fit_temperature([sample_pixels(logits[top], mask[:, :200], valid[:, :200])])
    assert fitted == pytest.approx(temperature, rel=0.08)
    before = Reliability.of(logits[bottom], mask[:, 200:], valid[:, 200:]).error
    after = Reliability.of(logits[bottom] / fitted, mask[:, 200:], valid[:, 200:]).error
    assert after < 0.02 and (temperature == 1 or after < before / 3)


def test_fitting_a_temperature_without_labels_raises_an_error() -> None:
    with pytest.raises(DataError, match="no labelled pixel"):
        fit_temperature([])
