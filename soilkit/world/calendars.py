"""When composites and model fields are dated: periods and scene ids of products without orbits."""

from dataclasses import dataclass

import numpy as np

HOURS_3 = np.timedelta64(3 * 3_600_000_000, "us")
SMAP10KM_EPOCH = np.datetime64("2015-04-02", "D")
SMAP10KM_DAYS, MODIS_DAYS = 3, 4


@dataclass(frozen=True)
class Periods:
    """Scenes in time: ``scene_id`` strings and ``start``, ``end`` datetime64[us], all (time,)."""

    scene_id: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def ending_in(self, start, end) -> "Periods":
        """Those whose end lies in [start, end)."""
        keep = (self.end >= np.datetime64(start, "us")) & (self.end < np.datetime64(end, "us"))
        return Periods(self.scene_id[keep], self.start[keep], self.end[keep])


def _days(start, end) -> np.ndarray:
    return np.arange(np.datetime64(start, "D"), np.datetime64(end, "D") + 1)


def _words(days: np.ndarray, old: str = "-", new: str = "") -> np.ndarray:
    return np.char.replace(days.astype("datetime64[D]").astype(str), old, new)


def smap10km(start, end) -> Periods:
    """Three-day analyses whose end lies in [start, end): [first, first + 3 d).

    Examples
    --------
    >>> smap10km("2019-01-01", "2019-01-06").scene_id.tolist()
    ['SM_SMAP_I_20181230_20190101', 'SM_SMAP_I_20190102_20190104']
    """
    days = _days(np.datetime64(start, "D") - SMAP10KM_DAYS, end)
    first = days[(days - SMAP10KM_EPOCH).astype(int) % SMAP10KM_DAYS == 0]
    last = first + SMAP10KM_DAYS - 1
    names = np.char.add(np.char.add("SM_SMAP_I_", _words(first)), np.char.add("_", _words(last)))
    us = "datetime64[us]"
    return Periods(names, first.astype(us), (last + 1).astype(us)).ending_in(start, end)


def gldas(start, end) -> Periods:
    """Three-hourly instants in [start, end).

    Examples
    --------
    >>> gldas("2019-01-01", "2019-01-01T07").scene_id.tolist()
    ['A20190101_0000', 'A20190101_0300', 'A20190101_0600']
    """
    days = _days(start, end)
    at = (days.astype("datetime64[us]")[:, None] + np.arange(8) * HOURS_3).ravel()
    hours = np.char.add("_", np.char.add(np.tile([f"{3 * k:02d}" for k in range(8)], 1), "00"))
    names = np.char.add(np.char.add("A", _words(days))[:, None], hours[None, :]).ravel()
    return Periods(names, at, at).ending_in(start, end)


def modis_lai(start, end) -> Periods:
    """Four-day composites that restart with every year and end in [start, end).

    Examples
    --------
    >>> modis_lai("2018-12-28", "2019-01-06").scene_id.tolist()
    ['2018_12_27', '2018_12_31', '2019_01_01']
    """
    days = _days(np.datetime64(start, "D") - MODIS_DAYS, end)
    year = days.astype("datetime64[Y]")
    first = days[(days - year.astype("datetime64[D]")).astype(int) % MODIS_DAYS == 0]
    next_year = (first.astype("datetime64[Y]") + 1).astype("datetime64[D]")
    last = np.minimum(first + MODIS_DAYS, next_year)
    us = "datetime64[us]"
    names = _words(first, new="_")
    return Periods(names, first.astype(us), last.astype(us)).ending_in(start, end)


def smap_l3(start, end) -> Periods:
    """Morning granules, one a day, dated by the descending pass at 6 h local time (12:00 UTC).

    Examples
    --------
    >>> smap_l3("2019-01-01", "2019-01-02").scene_id.tolist()
    ['SMAP_L3_SM_P_E_20190101_AM']
    """
    days = _days(start, end)
    at = days.astype("datetime64[us]") + np.timedelta64(12 * 3_600_000_000, "us")
    names = np.char.add(np.char.add("SMAP_L3_SM_P_E_", _words(days)), "_AM")
    return Periods(names, at, at).ending_in(start, end)


CALENDARS = {"smap": smap10km, "gldas": gldas, "modis_lai": modis_lai, "smap_l3": smap_l3}
