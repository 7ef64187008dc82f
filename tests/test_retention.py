"""Water retention: the curve's fixed points, and regressions known from elsewhere."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares

from soilkit.errors import ContractError
from soilkit.retention import (
    CM_OF_KPA,
    FIELD_CAPACITY_CM,
    WILTING_POINT_CM,
    Retention,
    from_texture,
    pf,
    water_content,
)

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs SOILKIT_TEST_DATA")

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


# ---- suction from moisture ----------------------------------------------------------------------


@given(st.floats(0.0, 4.0), st.floats(1.05, 3.0))
def test_pf_is_the_inverse_of_the_curve(log10_cm, n):
    """Where the effective saturation lies between 0.01 and 0.999."""
    curve = Retention(0.05, 0.45, 0.02, n)
    held = water_content(10**log10_cm, curve)
    if 0.011 < (held - 0.05) / 0.4 < 0.9985:
        assert pf(held, curve) == pytest.approx(log10_cm, abs=1e-6)


def test_a_clay_near_n_of_one_has_a_suction_that_overflows_nothing():
    """n = 1.09 at a hundredth of its water: 10 ** 29.9 kPa, whose raw form is no float32."""
    # x = ln(100) 1.09 / 0.09 = 55.77; 55.77 / (1.09 ln 10) - log10 0.001 = 22.22 + 3
    clay = [torch.tensor(v) for v in (0.1, 0.5, 0.001, 1.09)]
    suction = pf(torch.tensor(0.104), Retention(*clay))
    assert suction.dtype == torch.float32
    assert float(suction) == pytest.approx(25.22, abs=0.01)


@given(st.floats(-0.2, 0.9), st.floats(1.02, 3.0))
def test_pf_is_finite_and_falls_with_moisture_beyond_both_ends_too(moisture, n):
    curve = Retention(0.08, 0.40, 0.02, n)
    drier, wetter = pf(np.array([moisture, moisture + 0.01]), curve)
    assert np.isfinite([drier, wetter]).all()
    assert drier > wetter


def test_beyond_the_bounds_the_curve_is_its_own_tangent():
    """The slope across the ends of effective saturation has no step."""
    for saturation in (0.01, 0.999):
        at = 0.078 + 0.352 * (saturation + np.array([-2e-5, -1e-5, 1e-5, 2e-5]))
        below, _, above = np.diff(pf(at, LOAM)) / np.diff(at)
        assert below == pytest.approx(above, rel=0.03)


def test_numpy_and_torch_share_one_formula():
    moisture = np.linspace(0.0, 0.6, 61)
    tensor = pf(torch.from_numpy(moisture), LOAM)
    np.testing.assert_allclose(tensor.numpy(), pf(moisture, LOAM), rtol=1e-12)


def test_gradients_of_pf_are_those_of_finite_differences():
    """By moisture and by every parameter: dry, inside, wet."""

    def suction(moisture, *parameters):
        return pf(moisture, Retention(*parameters))

    moisture = torch.tensor([0.02, 0.0801, 0.2, 0.35, 0.44, 0.6], dtype=torch.float64)
    soil = [torch.full_like(moisture, value) for value in (0.078, 0.43, 0.036, 1.3)]
    wanted = [value.requires_grad_() for value in (moisture, *soil)]
    assert torch.autograd.gradcheck(suction, wanted)
    in_short = [value.detach().float().requires_grad_() for value in wanted]
    suction(*in_short).sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in in_short)


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        (Retention(0.1, 0.4, 0.02, np.array([1.0, 1.3])), "n is not above 1 in 1 soils"),
        (Retention(0.4, 0.4, 0.02, 1.3), "theta_s is not above theta_r"),
    ],
)
def test_what_is_no_curve_is_named(curve, words):
    with pytest.raises(ContractError, match=words):
        pf(np.array([0.2, 0.3]), curve)
    tensors = Retention(*(torch.as_tensor(v) for v in vars(curve).values()))
    with pytest.raises(ContractError, match=words):
        pf(torch.tensor([0.2, 0.3]), tensors)


def test_an_unknown_soil_has_no_suction():
    suction = pf(np.array([0.2, 0.2]), Retention(0.05, 0.45, 0.02, np.array([np.nan, 1.4])))
    assert np.isnan(suction).tolist() == [True, False]


@needs_data
def test_measured_moisture_of_oklahoma_soils_lies_on_their_curves():
    """MesoSoil 2.0: RMSE 0.022 at 33 and 0.015 m3 m-3 at 1500 kPa; and the suction comes back."""
    soils = pd.read_parquet(DATA / "mesosoil/mesosoil_v2.parquet")
    soils = soils.dropna(subset=["th33", "th1500", "n", "theta_s"])
    alpha_per_cm = soils["alpha_1_kPa"] / CM_OF_KPA
    curve = Retention(soils["theta_r"], soils["theta_s"], alpha_per_cm, soils["n"])
    for name, cm, rmse in (("th33", FIELD_CAPACITY_CM, 0.022), ("th1500", WILTING_POINT_CM, 0.015)):
        held = water_content(cm, curve)
        assert np.sqrt(((held - soils[name]) ** 2).mean()) == pytest.approx(rmse, abs=0.0015)
        is_exact = held > curve.residual + 0.01 * (curve.saturated - curve.residual)
        assert is_exact.mean() > 0.95  # the rest lies on the tangent: sands at the wilting point
        np.testing.assert_allclose(pf(held, curve)[is_exact], np.log10(cm), atol=1e-6)


def fitted(cm, moisture):
    """The van Genuchten curve of one layer, by least squares."""

    def curve(residual, saturated, log10_alpha, n):
        return Retention(residual, saturated, 10**log10_alpha, n)

    def misses(parameters):
        return water_content(cm, curve(*parameters)) - moisture

    top = moisture.max()
    lowest, highest = (0, 0.5 * top, -6, 1.01), (0.6 * top, 0.95, 2, 8)
    return curve(*least_squares(misses, (0.05, top, -1.5, 1.3), bounds=(lowest, highest)).x)


@needs_data
def test_suction_of_swiss_layers_comes_back_from_their_fitted_curves():
    """Fits leave 0.015 m3 m-3 on average; suctions that were set come back to 0.12 of pF."""
    layers = pd.read_parquet(DATA / "soil_hydraulic/swissforestsoils.parquet")
    layers = layers.dropna(subset=["theta"]).assign(cm=lambda t: 100 * t["head"])
    rmse, errors = [], []
    for _, layer in layers.groupby("layer_id"):
        if len(layer) >= 8:
            curve = fitted(layer["cm"].to_numpy(), layer["theta"].to_numpy())
            misses = water_content(layer["cm"], curve) - layer["theta"]
            rmse.append(np.sqrt((misses**2).mean()))
            steep = layer[layer["theta"].between(curve.residual + 0.02, 0.97 * curve.saturated)]
            errors.append(pf(steep["theta"], curve) - np.log10(steep["cm"]))
    assert len(rmse) > 80
    assert np.mean(rmse) < 0.016
    assert pd.concat(errors).abs().median() < 0.15
