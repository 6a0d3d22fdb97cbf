from __future__ import annotations

import numpy as np

from runtime.products.speckle import calmed


def speckled(looks: int) -> np.ndarray:
    """(200, 200) float32 power: an edge of 10 dB in speckle."""
    mean = np.ones((200, 200)) * np.where(np.arange(200) < 100, 1, 10)
    return (mean * np.random.default_rng(0).gamma(looks, 1 / looks, mean.shape)).astype(np.float32)


def test_even_ground_is_calmed_and_keeps_its_level() -> None:
    power = speckled(1)
    result = calmed(power, np.ones_like(power))
    assert result[:, 10:90].std() < 0.35 * power[:, 10:90].std()
    assert np.isclose(result[:, 10:90].mean(), power[:, 10:90].mean(), rtol=0.1)


def test_an_edge_stays_sharp() -> None:
    result = calmed(speckled(4), np.ones((200, 200), np.float32))
    assert result[:, 101].mean() > 3 * result[:, 98].mean()


def test_what_was_not_measured_is_nothing_and_changes_nothing() -> None:
    power, weight = speckled(4), np.ones((200, 200), np.float32)
    weight[:, 100:] = power[:, 100:] = 0
    result = calmed(power, weight)
    assert not result[:, 100:].any()
    assert np.isclose(result[:, 95:100].mean(), 1, rtol=0.15)


def test_a_picture_without_measurements_is_left_alone() -> None:
    nothing = np.zeros((3, 4), np.float32)
    assert np.array_equal(calmed(nothing, nothing), nothing)
