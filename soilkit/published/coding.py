"""Between a feature's integers and the stored values of our sources."""

from functools import cache
from typing import Any

import numpy as np

from soilkit.errors import ContractError
from soilkit.published.scaling import Unscaled
from soilkit.published.schema import Feature, feature


@cache
def _byte_table(name: str) -> np.ndarray:
    """The stored value of each byte, float32 (256,)."""
    return _decoded(feature(name), np.arange(256.0))


def decode(name: str, raw: Any) -> np.ndarray:
    """Stored values of a feature's integers, float32, NaN where 0 stands for no data.

    Parameters
    ----------
    name : a feature
    raw : integers of any shape

    Examples
    --------
    >>> decode("sentinel_1_VV", np.array([0, 51, 255], "uint8"))
    array([ nan, -19.,   5.], dtype=float32)
    """
    raw = np.asarray(raw)
    if raw.dtype == np.uint8:
        return _byte_table(name)[raw]
    return _decoded(feature(name), raw.astype(np.float64))


def _decoded(row: Feature, raw: np.ndarray) -> np.ndarray:
    stored = row.scaling.decode(raw)
    return np.where(row.zero_is_missing & (raw == 0), np.nan, stored).astype(np.float32)


def encode(name: str, stored: Any) -> np.ndarray:
    """Integers of a feature's stored values: uint8, or int16 where they do not fit.

    NaN becomes 0. Where 0 stands for no data, a known value below the range becomes 1. Bytes are
    rounded to the nearest; whether the publication rounds or cuts off is not said.

    Raises
    ------
    ContractError
        For a value that no int16 holds.
    """
    row = feature(name)
    values = np.asarray(stored, np.float64)
    integers = np.rint(row.scaling.encode(values))
    if not isinstance(row.scaling, Unscaled):
        integers = np.clip(integers, int(row.zero_is_missing), 255)
    integers = np.where(np.isfinite(values), integers, 0)
    if (np.abs(integers) > np.iinfo(np.int16).max).any():
        raise ContractError(
            f"{name} holds {integers.max():.0f} and {integers.min():.0f}; an image of the shards "
            "fits into 16 bits. Give it in the unit that schema_table() names."
        )
    fits = integers.size == 0 or (integers.min() >= 0 and integers.max() <= 255)
    return integers.astype(np.uint8 if fits else np.int16)
