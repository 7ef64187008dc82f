"""In-situ readings, ready to be looked up by sensor and time without a copy of them."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from soilkit.insitu import rules

TOLERANCE_S = 180  # of a reading's time: published times are float32 milliseconds, 131 s apart
AGREE_M3_M3 = 0.005  # a probe's noise (Seyfried and Murdock, 2004, doi:10.2136/sssaj2004.4010)
_TOLERANCE_US = TOLERANCE_S * 1_000_000
_NO_TIME = np.datetime64("NaT", "us")


class Nearest(NamedTuple):
    """For each (sensor, time) the reading nearest in time, accepted ones first; arrays (record,).

    ``is_found`` where there is one, ``is_accepted`` where its flag is, ``is_unclear`` where the
    accepted ones within the tolerance differ by more than a probe's noise. ``value`` [m3 m-3],
    ``time`` and ``flag`` are NaN, NaT and "" where none is found.
    """

    is_found: np.ndarray
    is_accepted: np.ndarray
    is_unclear: np.ndarray
    value: np.ndarray
    time: np.ndarray
    flag: np.ndarray


class Readings:
    """The readings of an observations table, sensor by sensor.

    Parameters
    ----------
    observations : observations table, ``sensor_id`` and ``flag`` categorical
    flags : tuple of text, the flags accepted; None accepts all
    """

    def __init__(self, observations: pd.DataFrame, *, flags: tuple[str, ...] | None):
        observations = _sorted(observations)
        sensor, flag = observations["sensor_id"].cat, observations["flag"].cat
        self.time_us = observations["time"].to_numpy().astype("datetime64[us]", copy=False)
        self.time_us = self.time_us.view("int64")
        self.value = observations["soil_moisture_m3_m3"].to_numpy(np.float32)
        self._flags = np.array([*flag.categories.astype(str), ""], dtype=object)
        self._flag = flag.codes.to_numpy()
        accepted = flag.categories.isin(rules.accepted_flags(flags, flag.categories))
        self.is_accepted = np.append(accepted, False)[self._flag]
        codes = sensor.codes.to_numpy()
        edges = np.searchsorted(codes, np.arange(len(sensor.categories) + 1))
        self._slices = {
            str(name): (int(start), int(stop))
            for name, start, stop in zip(sensor.categories, edges[:-1], edges[1:], strict=True)
        }

    def near(self, sensors: np.ndarray, time: np.ndarray) -> Nearest:
        """The reading of each sensor nearest to each time, within 3 minutes.

        Parameters
        ----------
        sensors : array (record,) of text; "" or an unknown one has no reading
        time : array (record,) of datetime64[us]
        """
        n, instant = len(time), time.view("int64")
        first, last = np.zeros(n, np.intp), np.zeros(n, np.intp)
        names, which = np.unique(sensors.astype(str), return_inverse=True)
        order = np.argsort(which, kind="stable")
        for name, rows in zip(names, np.split(order, _borders(which[order])), strict=True):
            start, stop = self._slices.get(str(name), (0, 0))
            there, at = self.time_us[start:stop], instant[rows]
            first[rows] = start + np.searchsorted(there, at - _TOLERANCE_US, side="left")
            last[rows] = start + np.searchsorted(there, at + _TOLERANCE_US, side="right")
        return self._nearest(first, last, instant)

    def _nearest(self, first: np.ndarray, last: np.ndarray, instant: np.ndarray) -> Nearest:
        is_found = last > first
        row, is_unclear = first.copy(), np.zeros(len(first), bool)
        for i in np.flatnonzero(last - first > 1):  # rare: the archive is hourly
            rows = np.arange(first[i], last[i])
            good = rows[self.is_accepted[rows]]
            rows = good if len(good) else rows
            row[i] = rows[np.abs(self.time_us[rows] - instant[i]).argmin()]
            is_unclear[i] = len(good) and np.ptp(self.value[good]) > AGREE_M3_M3
        row = row[is_found]

        def spread(values: np.ndarray, nothing: object) -> np.ndarray:
            out = np.full(len(is_found), nothing, dtype=values.dtype)
            out[is_found] = values
            return out

        return Nearest(
            is_found,
            spread(self.is_accepted[row], False),
            is_unclear,
            spread(self.value[row], np.nan),
            spread(self.time_us[row].view("datetime64[us]"), _NO_TIME),
            spread(self._flags[self._flag[row]], ""),
        )


def _borders(sorted_codes: np.ndarray) -> np.ndarray:
    """Where each code but the first begins."""
    return np.flatnonzero(np.diff(sorted_codes)) + 1


def _sorted(observations: pd.DataFrame) -> pd.DataFrame:
    """The table by sensor and time; the same one where it is already."""
    if not all(
        isinstance(observations[c].dtype, pd.CategoricalDtype) for c in ("sensor_id", "flag")
    ):
        observations = observations.astype({"sensor_id": "category", "flag": "category"})
    codes = observations["sensor_id"].cat.codes.to_numpy()
    time = observations["time"].to_numpy()
    later = time[1:] >= time[:-1]
    if bool(((codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & later)).all()):
        return observations
    return observations.iloc[np.lexsort((time, codes))]
