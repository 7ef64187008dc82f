"""From the shards' integers to the stored units of our sources, and back.

Decoding inverts the published text, not published code: what the constants rest on is told feature
by feature in ``schema.FEATURES``. A 0 is no data where ``schema`` says so.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from soilkit.sources import LogSigmoid

BYTE_MAX = 255


class Scaling(Protocol):
    """How an integer of the shards stands for a stored value."""

    def decode(self, raw: np.ndarray) -> np.ndarray:
        """Stored values, float64, of integers."""
        ...

    def encode(self, stored: np.ndarray) -> np.ndarray:
        """Integers, as floats not yet rounded or clipped, of stored values."""
        ...

    def words(self) -> str:
        """The rule in words, for a table."""
        ...


@dataclass(frozen=True)
class ByteLinear:
    """Stored value = minimum + (maximum - minimum) byte / 255.

    Examples
    --------
    >>> ByteLinear(-25, 5).decode(np.array([51.0, 255.0]))
    array([-19.,   5.])
    """

    minimum: float
    maximum: float

    def decode(self, raw: np.ndarray) -> np.ndarray:
        return self.minimum + (self.maximum - self.minimum) * (raw / BYTE_MAX)

    def encode(self, stored: np.ndarray) -> np.ndarray:
        return (stored - self.minimum) / (self.maximum - self.minimum) * BYTE_MAX

    def words(self) -> str:
        return f"{self.minimum:g} + {self.maximum - self.minimum:g} x byte / 255"


@dataclass(frozen=True)
class ByteLogSigmoid:
    """Sentinel-2: byte / 255 = sigmoid(5 z - 1), z = (ln(0.005 DN + 1) - log_mean) / log_std.

    The transform saturates: 255 is read as 254.5, the least that rounds to it.

    Examples
    --------
    >>> rule = ByteLogSigmoid(LogSigmoid(1.6798, 2.1796))
    >>> rule.decode(rule.encode(np.array([300.0, 3000.0]))).round(6)
    array([ 300., 3000.])
    """

    rule: LogSigmoid

    def decode(self, raw: np.ndarray) -> np.ndarray:
        fraction = np.clip(raw, 0.5, BYTE_MAX - 0.5) / BYTE_MAX
        z = (np.log(fraction / (1 - fraction)) + 1) / 5
        return np.maximum(np.expm1(z * self.rule.log_std + self.rule.log_mean) / 0.005, 0.0)

    def encode(self, stored: np.ndarray) -> np.ndarray:
        return self.rule(stored) * BYTE_MAX

    def words(self) -> str:
        return "inverse of Table 17's logarithm and sigmoid at byte / 255"


@dataclass(frozen=True)
class Unscaled:
    """The integer is the stored value."""

    def decode(self, raw: np.ndarray) -> np.ndarray:
        return raw

    def encode(self, stored: np.ndarray) -> np.ndarray:
        return stored

    def words(self) -> str:
        return "as it is"
