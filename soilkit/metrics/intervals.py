"""Confidence intervals of the four scores from effective sample sizes."""

import numpy as np
from scipy import stats


def of_r(r, n_effective, *, confidence):
    """Fisher's interval tanh(arctanh(r) +- z / sqrt(n_effective - 3)) [1]_.

    References
    ----------
    .. [1] Fisher (1921), Metron 1, 3-32
    """
    z = stats.norm.ppf((1 + confidence) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = z / np.sqrt(n_effective - 3)
        return np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)


def of_r_like(r, n_pairs, *, confidence):
    """Fisher's interval as if of n_pairs independent normal pairs, tanh(arctanh(r) +- t / sqrt(n)).

    Student's t with n_pairs - 1 degrees of freedom stands for the normal quantile because the
    variance 1 / n_pairs is itself estimated; for independent pairs it is within 3 % of
    z / sqrt(n - 3) from n = 13 on.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stats.t.ppf((1 + confidence) / 2, n_pairs - 1) / np.sqrt(n_pairs)
        return np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)


def of_bias(bias, ubrmse, *, n_effective, confidence):
    """Student's interval with n_effective - 1 degrees of freedom, same unit as the bias."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t = stats.t.ppf((1 + confidence) / 2, n_effective - 1)
        half = t * ubrmse / np.sqrt(n_effective - 1)
    return bias - half, bias + half


def of_ubrmse(ubrmse, *, n_mean, n_square, confidence):
    """Chi-square interval of a standard deviation, same unit.

    The squared scatter has n_square = n (1 - rho2) / (1 + rho2) independent terms, and is too
    small by the factor 1 - 1 / n_mean because the sample's own mean was removed.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = ubrmse**2 * n_mean / (n_mean - 1)
    return _root_of_chi_square(variance, n_square - 1, confidence)


def of_rmse(rmse, bias, *, n_mean, n_square, confidence):
    """Chi-square interval of a root mean square, same unit.

    The mean square s2 + b2 has the variance 2 s4 / n_square + 4 b2 s2 / n_mean, where s2 is the
    scatter freed of the factor 1 - 1 / n_mean; the degrees of freedom are those that give a
    chi-square the same relative variance [1]_.

    References
    ----------
    .. [1] Satterthwaite (1946), doi:10.2307/3002019
    """
    square = rmse**2
    scatter = np.maximum(square - bias**2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scatter = scatter * n_mean / (n_mean - 1)
        variance = 2 * scatter**2 / n_square + 4 * bias**2 * scatter / n_mean
        freedom = np.where(variance > 0, 2 * square**2 / variance, np.inf)
    return _root_of_chi_square(square, np.where(np.isnan(n_mean), np.nan, freedom), confidence)


def _root_of_chi_square(square, freedom, confidence):
    alpha = 1 - confidence
    # Beyond a million degrees of freedom the quantiles are the mean to three digits and more.
    freedom = np.minimum(freedom, 1e6)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lower = square * freedom / stats.chi2.ppf(1 - alpha / 2, freedom)
        upper = square * freedom / stats.chi2.ppf(alpha / 2, freedom)
        return np.sqrt(lower), np.sqrt(upper)
