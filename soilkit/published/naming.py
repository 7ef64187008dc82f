"""Which sensor of an in-situ archive a published ``sensor_id`` means: exactly one, or a reason.

A published id is ``NETWORK__STATION__SENSOR``: it carries no depth, and its names are spelt as they
were years ago. The script that was published with the shards takes the first station whose name
holds all parts of ``STATION``, and of it the first probe at 0.05 m, whatever ``SENSOR`` says.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from soilkit.insitu.names import plain

MAX_DISTANCE_M = 1280.0  # half of the 2.56 km that models see: beyond it the probe is off the image
LABEL_DEPTH_M = (0.045, 0.055)  # where a 5 cm reading ends; two inches are 0.0508 m
METRES_PER_DEGREE = 111_195.0

NOT_AN_ID = "sensor_id is not NETWORK__STATION__SENSOR"
NO_NETWORK = "network absent"
NO_STATION = "station absent"
ELSEWHERE = "station stands elsewhere"
NO_PROBE = "probe absent at 5 cm"
MANY_STATIONS = "several stations fit"
MANY_PROBES = "several probes or depths fit"
_TWIN = re.compile(r"~\d+$")  # the mark of the second of two equal file names
_BORDER = re.compile(r"[-_ ]")


@dataclass(frozen=True)
class Meaning:
    """The archive's ``sensor_id`` behind a published one, or the reason why there is none."""

    sensor_id: str = ""
    reason: str = ""


def parts(sensor_id: str) -> tuple[str, str, str] | None:
    """Network, station and sensor of a published id; None where it is none.

    Examples
    --------
    >>> parts("FR_Aqui__fraye__ThetaProbe-ML2X")
    ('FR_Aqui', 'fraye', 'ThetaProbe-ML2X')
    """
    found = sensor_id.split("__")
    return (found[0], found[1], found[2]) if len(found) == 3 and all(found) else None


class Names:
    """The surface sensors of a stations table, ready to be looked up by published names.

    Parameters
    ----------
    stations : stations table, one row a sensor
    max_distance_m : float, m; a station of the right name that stands farther off is another place
    """

    def __init__(self, stations: pd.DataFrame, *, max_distance_m: float = MAX_DISTANCE_M):
        low, high = LABEL_DEPTH_M
        at_five = stations["depth_to_m"].between(low, high)
        self._max_distance_m = max_distance_m
        places = stations.drop_duplicates("station_id")
        networks = places["network"].astype(str).map(plain)
        self._places = {str(key): rows for key, rows in places.groupby(networks)}
        self._probes: dict[str, list[tuple[str, str]]] = {}
        for station, sensor in stations.loc[at_five, ["station_id", "sensor_id"]].itertuples(
            index=False
        ):
            probe = _TWIN.sub("", str(sensor).split("__")[2])
            self._probes.setdefault(str(station), []).append((probe, str(sensor)))

    def find(
        self, sensor_id: str, *, latitude: float = np.nan, longitude: float = np.nan
    ) -> Meaning:
        """The one sensor that an id means.

        Network and station agree in letters and digits; where no station does, one that holds every
        part of the published name and is known to stand there may be it. The probe is the one of
        that name, else those whose names go on from it ("SMP1" and "SMP1-A"). Where two fit, none
        is taken.

        Parameters
        ----------
        sensor_id : ``NETWORK__STATION__SENSOR``
        latitude, longitude : WGS84 degrees of the published image; NaN trusts the name alone
        """
        named = parts(sensor_id)
        if named is None:
            return Meaning(reason=NOT_AN_ID)
        network, station, probe = named
        places = self._places.get(plain(network))
        if places is None:
            return Meaning(reason=NO_NETWORK)
        far_m = _distance_m(places, latitude, longitude)
        names = places["station"].astype(str)
        fits = names.map(plain) == plain(station)
        missing = ELSEWHERE if fits.any() else NO_STATION
        if fits.any():
            near = places[fits & ~(far_m > self._max_distance_m)]
        else:
            near = places[_holds_parts(names, station) & (far_m <= self._max_distance_m)]
        if len(near) != 1:
            return Meaning(reason=MANY_STATIONS if len(near) else missing)
        return _probe(self._probes.get(str(near["station_id"].iloc[0]), []), probe)


def _holds_parts(names: pd.Series, station: str) -> np.ndarray:
    """Which names hold every part of a published one, as its own script compares them."""
    words = [word for word in station.split("_") if word]
    return np.array([all(w in n or w in n.replace("-", "") for w in words) for n in names], bool)


def _probe(probes: Sequence[tuple[str, str]], wanted: str) -> Meaning:
    fitting = [sensor for probe, sensor in probes if plain(probe) == plain(wanted)]
    if not fitting:
        fitting = [sensor for probe, sensor in probes if _goes_on(probe, wanted)]
    if len(fitting) == 1:
        return Meaning(fitting[0])
    return Meaning(reason=MANY_PROBES if fitting else NO_PROBE)


def _goes_on(probe: str, wanted: str) -> bool:
    """Whether a name is the wanted one and more words, as in "SMP1" and "SMP1-A"."""
    found, start = (_BORDER.split(name.lower()) for name in (probe, wanted))
    return len(found) > len(start) and found[: len(start)] == start


def _distance_m(places: pd.DataFrame, latitude: float, longitude: float) -> pd.Series:
    """How far each station stands from a point [m]; NaN where either is unknown."""
    north = (places["latitude"] - latitude) * METRES_PER_DEGREE
    east = (places["longitude"] - longitude) * METRES_PER_DEGREE * np.cos(np.radians(latitude))
    return np.hypot(north, east)
