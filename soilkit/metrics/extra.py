"""Scores beside the four, for all groups at once: Spearman's R and two forms of Kling-Gupta's."""

import numpy as np
from scipy import stats

from soilkit.metrics.groups import Groups


def ranks(groups: Groups, values: np.ndarray) -> np.ndarray:
    """The rank of each row within its group from 1 on, ties sharing their mean rank, (row,)."""
    number = groups.spread(np.arange(len(groups.counts)))
    order = np.lexsort((values, number))
    place = np.arange(len(values)) - groups.spread(groups.starts)  # of the rows in sorted order
    value = values[order]
    is_new = np.ones(len(values), bool)
    is_new[1:] = (value[1:] != value[:-1]) | (number[1:] != number[:-1])
    first = np.flatnonzero(is_new)
    lengths = np.diff(np.append(first, len(values)))
    found = np.empty(len(values))
    found[order] = np.repeat(place[first] + (lengths + 1) / 2, lengths)
    return found


def spearman(groups: Groups) -> np.ndarray:
    """Pearson's R of the ranks of each group, (group,); NaN where either series is constant."""
    x = groups.centred(ranks(groups, groups.observed))
    y = groups.centred(ranks(groups, groups.predicted))
    norm = np.sqrt(groups.sum(x * x)) * np.sqrt(groups.sum(y * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(groups.sum(x * y) / norm, -1, 1)


def spearman_interval(
    rho: np.ndarray, n_effective: np.ndarray, *, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fisher's interval, its variance widened by 1 + rho2 / 2 for ranks [1]_.

    References
    ----------
    .. [1] Bonett and Wright (2000), doi:10.1007/BF02294183
    """
    z = stats.norm.ppf((1 + confidence) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = z * np.sqrt((1 + rho**2 / 2) / (n_effective - 3))
        return np.tanh(np.arctanh(rho) - half), np.tanh(np.arctanh(rho) + half)


def kling_gupta(groups: Groups, r: np.ndarray, *, form: int) -> np.ndarray:
    """1 - sqrt((r - 1)2 + (variability - 1)2 + (beta - 1)2) of each group, (group,).

    beta = mean(predicted) / mean(observed). The variability is the ratio of standard deviations in
    the form of 2009 [1]_, and that of coefficients of variation in the form of 2012 [2]_, which
    keeps a wet bias from counting twice. NaN where R is, or where a mean is zero.

    References
    ----------
    .. [1] Gupta et al. (2009), doi:10.1016/j.jhydrol.2009.08.003
    .. [2] Kling et al. (2012), doi:10.1016/j.jhydrol.2012.01.011
    """
    x, y = groups.centred(groups.observed), groups.centred(groups.predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        alpha = np.sqrt(groups.sum(y * y) / groups.sum(x * x))
        beta = groups.sum(groups.predicted) / groups.sum(groups.observed)
        variability = alpha if form == 2009 else alpha / beta
        score = 1 - np.sqrt((r - 1) ** 2 + (variability - 1) ** 2 + (beta - 1) ** 2)
    return np.where(np.isfinite(score), score, np.nan)
