"""Earth Engine as an archive: scenes, chips and series, asked for within its limits."""

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import UnknownNameError
from soilkit.export.archives.earthengine.connection import connect as connect
from soilkit.export.archives.earthengine.doctor import examine, require
from soilkit.export.archives.earthengine.estimate import Estimate, estimate_cost
from soilkit.export.archives.earthengine.estimate import Trial as Trial
from soilkit.export.archives.earthengine.executor import Fault, run
from soilkit.export.archives.earthengine.executor import Policy as Policy
from soilkit.export.archives.earthengine.expressions import ChipJob, layer
from soilkit.export.archives.earthengine.scene_index import SceneIndex, ScenesCache, moments
from soilkit.export.archives.scenes import chip_of, places_of, refusal, scenes_everywhere
from soilkit.sources.row import GLOBAL, PASSES

log = logging.getLogger(__name__)
FORMAT_VERSION = 2
SAME_SCENE = np.timedelta64(1, "h")  # between the time in a scene's name and its end


class EarthEngineArchive:
    """Scenes, chips and series from Google Earth Engine.

    Parameters
    ----------
    project : str, optional
        The Google Cloud project, as in ``connect``, which is called when first needed.
    cache_dir : path, optional
        Where the pieces of the scene index and of series are kept, so that an interrupted one
        goes on; without it they are asked for every time.
    policy : Policy, optional
        Calls in flight, attempts, deadline.
    footprint_m : float, m
        Side of the square over which ``cloud_fraction`` and ``valid_fraction`` are counted.
    client : distributed.Client, optional
        Fetches chips on a Dask cluster instead of in threads of this process.
    service_account_key : path, JSON text or mapping, optional
        As in ``connect``.

    Examples
    --------
    >>> EarthEngineArchive().name  # asks nothing of the service yet
    'earthengine'
    """

    name = "earthengine"

    def __init__(
        self,
        project: str | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        policy: Policy | None = None,
        footprint_m: float = 2560.0,
        client: Any = None,
        service_account_key: Any = None,
    ) -> None:
        self.project, self.client, self._key = project, client, service_account_key
        self.policy = policy or Policy()
        self.version = _version()
        cache = ScenesCache(cache_dir)
        self._index = SceneIndex(cache, self.policy, float(footprint_m), self.connect)

    def connect(self) -> str:
        """Log in, unless that was done; the project in use."""
        return connect(self.project, service_account_key=self._key, policy=self.policy)

    def scenes(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """Scenes of one source over the stations whose end lies in [start, end) (contract SCENES).

        Radar and optical scenes are listed station by station; the images of global products once,
        and repeated over the stations, with an unknown ``valid_fraction``.

        Raises ``UnknownNameError`` for a source that Earth Engine lacks (the message says where it
        lives), ``BoundError`` or ``TimeZoneError`` for a start or end that is no moment in naive
        UTC, ``ServiceError`` when some of the index did not come (what came is kept in
        ``cache_dir``), ``StoreError`` when ``cache_dir`` cannot be written, and ``ConnectError``
        without a login.
        """
        places = places_of(stations)
        if layer(source).form == PASSES:
            table = self._index.passes(source, places, period=(start, end))
        else:
            images = self._index.images(source, (start, end))
            table = scenes_everywhere(source, images, places=places)
        return _explained(table, source, period=(start, end))

    def series(self, stations: pd.DataFrame, source: str, start: Any, end: Any) -> pd.DataFrame:
        """A coarse or MODIS product at the stations: one row a station and scene with a value.

        Scenes are those whose end lies in [start, end), UTC; values outside the valid range are
        missing. The columns are ``station_id``, ``scene_id``, ``start``, ``end`` and one a band:
        the stored value of the native pixel that holds the station. Raises ``UnknownNameError`` for
        a source without a series; else as ``scenes``.
        """
        if layer(source).form != GLOBAL:
            held = [row.name for row in sources.CATALOGUE if row.earth_engine]
            names = [name for name in held if layer(name).form == GLOBAL]
            raise UnknownNameError(
                f"Earth Engine has no series of {source!r}; it has {', '.join(names)}. "
                "Ask chips for images."
            )
        table = self._index.series(source, places_of(stations), period=(start, end))
        return _explained(table, source, period=(start, end))

    def chips(
        self, requests: Iterable[ChipRequest]
    ) -> Iterator[tuple[ChipRequest, Chip | Failure]]:
        """Yield every request with its chip or its failure, as they come.

        The dataset doctor looks at the sources first: what it doubts is logged. Raises
        ``DatasetError`` when an asset is gone, lacks a band or ended before the requested scenes,
        and ``ServiceError`` when the login is refused: nothing else would come either.
        """
        wanted = []
        for request in requests:
            reason = self._refusal(request)
            if reason:
                yield request, Failure(reason, permanent=True)
            else:
                wanted.append(request)
        if not wanted:
            return
        _examine(wanted)
        job = ChipJob(self.connect())
        running: Any = run(wanted, job, policy=self.policy, client=self.client)
        with contextlib.closing(running) as answers:
            for request, answer in answers:
                yield request, _settled(request, answer)

    def estimate(self, requests: Iterable[ChipRequest], *, trial: Trial | None = None) -> Estimate:
        """What fetching these chips will cost; see ``estimate.estimate_cost``."""
        return estimate_cost(requests, policy=self.policy, trial=trial)

    def _refusal(self, request: ChipRequest) -> str:
        """Why a request cannot be met, as far as is known before asking; or nothing."""
        try:
            held = layer(request.source)
        except UnknownNameError as error:
            return f"Earth Engine does not render {request.source!r}: {error}"
        reason = refusal(request, self.version)
        if not reason and held.form == PASSES and _is_of_another_time(request):
            return f"no scene {request.scene_id} over {request.station_id} at {request.time}"
        return reason


def _examine(wanted: list[ChipRequest]) -> None:
    """Have the doctor look at the sources over the requested time."""
    times = np.array([r.time for r in wanted if not np.isnat(r.time)], "datetime64[us]")
    start, end = (times.min(), times.max() + np.timedelta64(1, "D")) if len(times) else (None, None)
    bands: dict[str, set[str]] = {}
    for request in wanted:
        bands.setdefault(request.source, set()).update(request.bands)
    require(bands, start=start, end=end)


def _explained(table: pd.DataFrame, source: str, *, period: tuple[Any, Any]) -> pd.DataFrame:
    """The table; where it is empty, the log says what the doctor knows about that."""
    start, end = moments(period)
    if not len(table) and start < end:
        for row in examine([source], start=start, end=end).itertuples():
            finding = "nothing is known against it" if row.status == "ok" else row.what
            log.warning("No %s from %s to %s: %s. %s", source, start, end, finding, row.advice)
    return table


def _is_of_another_time(request: ChipRequest) -> bool:
    """Whether the moment in the name of a pass is not that of the request."""
    stamps = re.findall(r"(?<!\d)\d{8}T\d{6}", request.scene_id)
    times = pd.to_datetime(stamps, format="%Y%m%dT%H%M%S").to_numpy()
    return bool(stamps) and bool(np.abs(times - request.time).min() > SAME_SCENE)


def _settled(request: ChipRequest, answer: np.ndarray | Fault) -> Chip | Failure:
    if isinstance(answer, Fault):
        if answer.kind == "missing":
            return Failure(f"missing: no scene {request.scene_id} ({answer.reason})")
        return Failure(str(answer), permanent=not answer.retry)
    return chip_of(request, answer)


def _version() -> str:
    """The catalogue's assets and how they are read: another one gives other chips."""
    rows = [
        (s.name, s.asset, repr(s.earth_engine), [band.stored_range for band in s.bands])
        for s in sources.CATALOGUE
    ]
    text = json.dumps([FORMAT_VERSION, rows])
    return f"earthengine-{FORMAT_VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
