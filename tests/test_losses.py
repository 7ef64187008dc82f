"""Losses on soil moisture."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from soilkit.errors import UnknownNameError
from soilkit.models import xception_fusion
from soilkit.models.xception_fusion import LOSSES

MOISTURE = st.floats(0, 0.6, allow_nan=False)


def tensors(*pairs):
    return (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))


@given(MOISTURE, st.floats(0, 0.39))
def test_below_delta_huber_is_half_the_squared_error(observed, error):
    """Labels end near 0.6 m3 m-3, so delta 0.4 is hardly ever passed."""
    predicted, seen = tensors((observed + error, observed))
    assert LOSSES["huber"](predicted, seen).item() == pytest.approx(error**2 / 2, abs=1e-12)


def test_beyond_delta_huber_grows_linearly():
    # delta (|e| - delta / 2): 0.4 (1.0 - 0.2) = 0.32, then 0.4 (2.0 - 0.2) = 0.72
    assert LOSSES["huber"](*tensors((1.0, 0.0))).item() == pytest.approx(0.32)
    assert LOSSES["huber"](*tensors((2.0, 0.0))).item() == pytest.approx(0.72)


def test_losses_are_means_over_the_batch():
    # errors 0.5 and -0.1: Huber (0.4 (0.5 - 0.2) + 0.005) / 2, squares 0.26 / 2, sizes 0.6 / 2
    pairs = (0.6, 0.1), (0.2, 0.3)
    for name, expected in (("huber", 0.0625), ("mse", 0.13), ("mae", 0.3)):
        assert LOSSES[name](*tensors(*pairs)).item() == pytest.approx(expected)
    with pytest.raises(UnknownNameError, match="huber, mse, mae"):
        xception_fusion._chosen(LOSSES, "rmse", "loss")


def test_huber_pulls_half_as_hard_as_the_squared_error():
    """Below delta: the same direction, half the gradient, so twice the learning rate is alike."""
    predicted = torch.tensor([0.3, 0.1], requires_grad=True)
    observed = torch.tensor([0.2, 0.25])
    pulls = [
        torch.autograd.grad(LOSSES[name](predicted, observed), predicted)[0]
        for name in ("huber", "mse")
    ]
    torch.testing.assert_close(2 * pulls[0], pulls[1])
