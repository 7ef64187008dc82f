"""Many comparisons at once: p-values that keep their promise for the whole family."""

import numpy as np

from soilkit.errors import UnknownNameError


def holm(p_values):
    """Holm's adjusted p-values: the family-wise error rate, under any dependence [1]_.

    The k-th smallest of m is multiplied by m - k + 1, and made no smaller than the one before it.

    Parameters
    ----------
    p_values : array (comparison,); NaN is no test and does not count

    Returns
    -------
    array (comparison,), at most 1; NaN where there was no test

    References
    ----------
    .. [1] Holm (1979), Scandinavian Journal of Statistics 6, 65-70

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    return _adjust(p_values, _holm)


def benjamini_hochberg(p_values):
    """Benjamini and Hochberg's adjusted p-values: the false discovery rate [1]_.

    The k-th smallest of m is multiplied by m / k, and made no larger than the one after it.
    Promised for independent or positively dependent tests.

    Parameters
    ----------
    p_values : array (comparison,); NaN is no test and does not count

    Returns
    -------
    array (comparison,), at most 1; NaN where there was no test

    References
    ----------
    .. [1] Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.04, 0.04]
    """
    return _adjust(p_values, _benjamini_hochberg)


def unadjusted(p_values):
    """The p-values as they are, (comparison,)."""
    return np.array(p_values, float)


CORRECTIONS = {"holm": holm, "bh": benjamini_hochberg, None: unadjusted}


def adjust(p_values, correction):
    """Adjusted p-values by name: "holm", "bh" or None.

    Raises
    ------
    UnknownNameError
        For another correction.
    """
    if correction not in CORRECTIONS:
        raise UnknownNameError(f"No correction {correction!r}; there are 'holm', 'bh' and None.")
    return CORRECTIONS[correction](p_values)


def _adjust(p_values, step):
    p = np.array(p_values, float)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    p[order] = np.minimum(step(p[order]), 1.0)
    return p


def _holm(rising):
    return np.maximum.accumulate(rising * np.arange(len(rising), 0, -1))


def _benjamini_hochberg(rising):
    scaled = rising * len(rising) / np.arange(1, len(rising) + 1)
    return np.minimum.accumulate(scaled[::-1])[::-1]
