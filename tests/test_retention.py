"""Water retention: the curve's fixed points, and regressions known from elsewhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soilkit.retention import (
    FIELD_CAPACITY_CM,
    WILTING_POINT_CM,
    Retention,
    from_texture,
    water_content,
)

LOAM = Retention(0.078, 0.43, 0.036, 1.56)  # Carsel and Parrish (1988), doi:10.1029/WR024i005p00755


def test_a_soil_without_suction_is_saturated_and_a_strong_one_leaves_the_residual():
    assert water_content(0.0, LOAM) == pytest.approx(0.43)
    assert water_content(1e12, LOAM) == pytest.approx(0.078, abs=1e-4)


def test_half_way_by_hand():
    # (a h) = 1: filled = 2^(1/n - 1) = 2^(-0.35897) = 0.77971; 0.078 + 0.352 * 0.77971 = 0.35246
    assert water_content(1 / 0.036, LOAM) == pytest.approx(0.35246, abs=1e-5)


@given(st.floats(1, 1e5), st.floats(1.01, 10))
def test_more_suction_leaves_less_water(head_cm, factor):
    assert water_content(head_cm * factor, LOAM) < water_content(head_cm, LOAM)


def test_hypres_agrees_with_published_runs_of_the_same_regressions():
    """Two topsoils as computed by the euosi package's documentation for Wosten et al. (1999)."""
    clay, silt = np.array([25.0, 45.0]), np.array([15.0, 3.0])
    curve = from_texture(100 - clay - silt, clay, bulk_density_g_cm3=1.124447, organic_percent=4.5)
    np.testing.assert_allclose(curve.saturated, [0.5098983, 0.5043651], rtol=1e-5)
    np.testing.assert_allclose(curve.alpha_per_cm, [0.05413231, 0.04231467], rtol=1e-4)
    np.testing.assert_allclose(curve.n, [1.169909, 1.177021], rtol=1e-5)


def test_clay_keeps_more_water_than_sand_at_both_ends():
    soils = from_texture(np.array([85.0, 20.0]), np.array([5.0, 45.0]), bulk_density_g_cm3=1.4)
    for head_cm in (FIELD_CAPACITY_CM, WILTING_POINT_CM):
        sand, clay = water_content(head_cm, soils)
        assert clay > sand + 0.1
