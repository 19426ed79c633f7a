"""Descriptions of negative results: the detectable effect, and the effect that could have been missed."""

import pytest

from satseg.diagnosis.dependence import Dependence, LossCount, Question
from satseg.diagnosis.dependence_descriptions import describe_dependence
from satseg.diagnosis.swaps import Change


def not_significant(tone: float) -> Dependence:
    return Dependence(
        truth=1,
        predicted=1,
        question=Question(Change.SURROUNDINGS, False, None),
        effect=0.16,
        median=0.1,
        p_value=0.48,
        strength=1.0,
        lost=LossCount(4, 15),
        control=0.05,
        detectable={Change.SURROUNDINGS: 0.2, Change.TONE: tone},
        recipients=15,
        donors=(10, 12),
        needed=0,
        room=0.6,
    )


@pytest.mark.parametrize(
    ("tone", "words"),
    [
        (0.25, "A loss of 20% of a region (by surroundings) and 25% of a region (by tone) would have been found."),
        (0.4, "A loss below 40% of a region (by tone) could have been missed; about 18 images of each class would"),
        (0.85, "A loss below 85% of a region (by tone) could have been missed; predictions change too much"),
    ],
)
def test_a_negative_result_states_the_detectable_loss_and_the_number_of_images_needed(tone: float, words: str) -> None:
    described = describe_dependence(not_significant(tone), ["ground", "a"])
    assert words in described
    assert "lost no significantly larger share" in described  # four of fifteen regions were lost, which chance explains
    assert ("could have been missed" in described) is (tone > 0.3)
