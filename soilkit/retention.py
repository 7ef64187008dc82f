"""Water retention after van Genuchten: how much water a soil holds at a given suction."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from soilkit.errors import ContractError

FIELD_CAPACITY_CM = 330.0  # 33 kPa
WILTING_POINT_CM = 15300.0  # 1500 kPa
RESIDUAL_M3_M3 = 0.01  # fixed in the HYPRES regressions
CM_OF_KPA = 10.197  # of water
SATURATION_BOUNDS = (0.01, 0.999)  # beyond them the curve runs on as its tangent


@dataclass(frozen=True)
class Retention:
    """Parameters of the retention curve, arrays (or tensors) of one shape or scalars.

    ``residual`` and ``saturated`` in m3 m-3, ``alpha_per_cm`` in cm-1, ``n`` > 1 dimensionless.
    """

    residual: Any
    saturated: Any
    alpha_per_cm: Any
    n: Any


def water_content(suction_cm, curve: Retention):
    """Volumetric water content, m3 m-3, at a suction [cm of water], after van Genuchten.

    theta = theta_r + (theta_s - theta_r) / (1 + (a h)^n)^m with Mualem's m = 1 - 1/n [1]_. A
    suction is positive in unsaturated soil (0 = saturated); the curve is broadcast against it.

    References
    ----------
    .. [1] van Genuchten (1980), doi:10.2136/sssaj1980.03615995004400050002x

    Examples
    --------
    A loam, full at no suction, at field capacity and at the wilting point:

    >>> loam = Retention(0.078, 0.43, 0.036, 1.56)
    >>> water_content(np.array([0.0, 330.0, 15300.0]), loam).round(3)
    array([0.43 , 0.165, 0.088])
    """
    scaled = curve.alpha_per_cm * np.maximum(suction_cm, 0.0)
    filled = (1 + scaled**curve.n) ** (1 / curve.n - 1)
    return curve.residual + (curve.saturated - curve.residual) * filled


def pf(moisture_m3_m3, curve: Retention):
    """Suction at a volumetric water content as pF, log10 of cm of water: numpy in, numpy out.

    The curve of ``water_content`` [1]_ solved for the suction, with the effective saturation
    S = (theta - theta_r) / (theta_s - theta_r) and x = -ln(S) n / (n - 1):

        log10 h = -log10 a + (x + ln(1 - exp(-x))) / (n ln 10)

    which overflows nowhere, as h itself does (8e29 cm at n = 1.09). Outside S of 0.01 to 0.999,
    where the slope of the curve grows without bound, it is continued by its tangent: values and
    gradients are finite below the residual and above the saturated water content too. Tensors of
    torch are taken as well, give a tensor, and can be differentiated.

    Raises ``ContractError`` where n is not above 1 or the saturated content not above the residual
    one; where a parameter or the moisture is NaN, the answer is NaN.

    References
    ----------
    .. [1] van Genuchten (1980), doi:10.2136/sssaj1980.03615995004400050002x, Eq. 23

    Examples
    --------
    >>> loam = Retention(0.078, 0.43, 0.036, 1.56)
    >>> pf(water_content(np.array([10.0, 330.0, 15300.0]), loam), loam).round(3)
    array([1.   , 2.519, 4.185])
    """
    library = sys.modules["torch" if type(moisture_m3_m3).__module__[:5] == "torch" else "numpy"]
    span, n = curve.saturated - curve.residual, curve.n
    for wrong, words in ((span <= 0, "theta_s is not above theta_r"), (n <= 1, "n is not above 1")):
        if (is_wrong := library.asarray(wrong)).any():
            raise ContractError(
                f"No retention curve: {words} in {int(is_wrong.sum())} soils. Mask these, "
                "or look up the units: alpha and n may be stored as logarithms."
            )
    saturation = (moisture_m3_m3 - curve.residual) / span
    inner = library.clip(saturation, *SATURATION_BOUNDS)
    x = -library.log(inner) * (n / (n - 1))
    less_one = library.expm1(-x)  # exp(-x) - 1
    slope = 1 / (inner * less_one * (n - 1))  # of what is summed here against the saturation
    log_suction = (x + library.log(-less_one)) / n + slope * (saturation - inner)
    log_alpha = library.log(curve.alpha_per_cm + 0 * inner)
    return (log_suction - log_alpha) / np.log(10)


def from_texture(sand_percent, clay_percent, *, bulk_density_g_cm3, organic_percent=2.0):
    """Retention parameters of a topsoil from its texture, by the HYPRES regressions [1]_.

    Sand and clay are in % (silt is the rest), bulk density in g cm-3, organic matter in %; arrays
    of one shape.

    References
    ----------
    .. [1] Wosten et al. (1999), doi:10.1016/S0016-7061(98)00132-3, Table 5

    Examples
    --------
    Clay holds more at wilting point than sand does:

    >>> soil = from_texture(np.array([85.0, 20.0]), np.array([5.0, 45.0]), bulk_density_g_cm3=1.4)
    >>> water_content(WILTING_POINT_CM, soil).round(2)
    array([0.03, 0.23])
    """
    clay, silt = _fine_fractions(sand_percent, clay_percent)
    density, organic = bulk_density_g_cm3, organic_percent
    words = {"clay": clay, "silt": silt, "density": density, "organic": organic}
    return Retention(
        residual=np.full(np.shape(clay), RESIDUAL_M3_M3),
        saturated=_saturated(**words),
        alpha_per_cm=np.exp(_log_alpha(**words)),
        n=1 + np.exp(_log_n_minus_one(**words)),
    )


def _fine_fractions(sand_percent, clay_percent):
    """Clay and silt, %, kept off the ends where the regressions have poles."""
    silt = 100.0 - np.asarray(sand_percent) - clay_percent
    return np.clip(clay_percent, 1.0, 99.0), np.clip(silt, 1.0, 99.0)


def saturated_conductivity_cm_h(
    sand_percent, clay_percent, *, bulk_density_g_cm3, organic_percent=2.0
):
    """Saturated conductivity of a topsoil, cm h-1, from its texture, by the HYPRES regression.

    Parameters, units and source are those of ``from_texture``.
    """
    clay, silt = _fine_fractions(sand_percent, clay_percent)
    density, organic = bulk_density_g_cm3, organic_percent
    log_cm_day = (
        7.755 + 0.0352 * silt + 0.93 - 0.967 * density**2 - 0.000484 * clay**2
        - 0.000322 * silt**2 + 0.001 / silt - 0.0748 / organic - 0.643 * np.log(silt)
        - 0.01398 * density * clay - 0.1673 * density * organic + 0.02986 * clay - 0.03305 * silt
    )  # fmt: skip
    return np.exp(log_cm_day) / 24


def _saturated(clay, silt, density, organic):
    return (
        0.7919 + 0.001691 * clay - 0.29619 * density - 0.000001491 * silt**2
        + 0.0000821 * organic**2 + 0.02427 / clay + 0.01113 / silt + 0.01472 * np.log(silt)
        - 0.0000733 * organic * clay - 0.000619 * density * clay - 0.001183 * density * organic
        - 0.0001664 * silt
    )  # fmt: skip


def _log_alpha(clay, silt, density, organic):
    return (
        -14.96 + 0.03135 * clay + 0.0351 * silt + 0.646 * organic + 15.29 * density - 0.192
        - 4.671 * density**2 - 0.000781 * clay**2 - 0.00687 * organic**2 + 0.0449 / organic
        + 0.0663 * np.log(silt) + 0.1482 * np.log(organic) - 0.04546 * density * silt
        - 0.4852 * density * organic + 0.00673 * clay
    )  # fmt: skip


def _log_n_minus_one(clay, silt, density, organic):
    return (
        -25.23 - 0.02195 * clay + 0.0074 * silt - 0.1940 * organic + 45.5 * density
        - 7.24 * density**2 + 0.0003658 * clay**2 + 0.002885 * organic**2 - 12.81 / density
        - 0.1524 / silt - 0.01958 / organic - 0.2876 * np.log(silt) - 0.0709 * np.log(organic)
        - 44.6 * np.log(density) - 0.02264 * density * clay + 0.0896 * density * organic
        + 0.00718 * clay
    )  # fmt: skip
