"""Earth Engine as an archive: scenes, chips and series, asked for within its limits."""

import contextlib
import hashlib
import html
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from soilkit import sources
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import UnknownNameError
from soilkit.export.archives.earthengine.connection import connect as connect
from soilkit.export.archives.earthengine.doctor import examine, require
from soilkit.export.archives.earthengine.executor import Fault, Policy, run
from soilkit.export.archives.earthengine.expressions import ChipJob, layer
from soilkit.export.archives.earthengine.scene_index import SceneIndex, ScenesCache, moments
from soilkit.export.archives.scenes import chip_of, places_of, refusal, scenes_everywhere
from soilkit.sources.row import GLOBAL, PASSES

log = logging.getLogger(__name__)
FORMAT_VERSION = 2
SAME_SCENE = np.timedelta64(1, "h")  # between the time in a scene's name and its end


# ---- what an export will cost: requests, bytes, minutes, EECU-hours ------------------------------


# developers.google.com/earth-engine/guides/usage ("Earth Engine quotas")
REQUESTS_A_SECOND = 100
# "Total request size must be less than or equal to 50331648 bytes", uncompressed
PAYLOAD_BYTES = 48 * 2**20
# .../guides/noncommercial_tiers ("Noncommercial tiers"): a month, since 2026-04-27
TIERS = "Community 150, Contributor 1,000, Partner 100,000"
BYTES_A_VALUE = 4  # chips travel as float32
# Nobody publishes these for chips; two orders of magnitude say how little is known.
ASSUMED_SECONDS = 3.0
ASSUMED_EECU_SECONDS = (0.1, 10.0)


@dataclass(frozen=True)
class Estimate:
    """The cost of fetching chips; printed as a table in a terminal and in a notebook.

    Attributes
    ----------
    by_source : DataFrame, one row a source: ``chips``, ``requests`` (a large chip takes several),
        ``bytes`` before compression
    minutes : at the policy's concurrency
    eecu_hours_low, eecu_hours_high : compute, a range
    basis : where the minutes and the range come from
    """

    by_source: pd.DataFrame
    minutes: float
    eecu_hours_low: float
    eecu_hours_high: float
    basis: str

    @property
    def requests(self) -> int:
        """Calls of the service."""
        return int(self.by_source["requests"].sum())

    def table(self) -> pd.DataFrame:
        """As text, the total last: source, chips, requests, uncompressed."""
        rows = pd.concat([self.by_source, self.by_source.sum().to_frame("total").T])
        table = rows[["chips", "requests"]].map("{:,}".format)
        table = table.assign(uncompressed=rows["bytes"].map(_size))
        return table.rename_axis("source").reset_index()

    def _words(self) -> str:
        low, high = (
            f"{float(f'{h:.2g}'):,.12g}" for h in (self.eecu_hours_low, self.eecu_hours_high)
        )
        return (
            f"time     about {_duration(self.minutes)}\n"
            f"compute  {low} to {high} EECU-hours\n"
            f"basis    {self.basis}"
        )

    def __str__(self) -> str:
        return f"{self.table().to_string(index=False)}\n{self._words()}"

    def _repr_html_(self) -> str:
        words = html.escape(self._words()).replace("\n", "<br>")
        return f"{self.table().to_html(index=False, border=0)}<p>{words}</p>"


def estimate_cost(requests: Iterable[ChipRequest], *, policy: Policy) -> Estimate:
    """What fetching these chips will cost; the policy's concurrency decides the minutes."""
    rows = [
        (r.source, BYTES_A_VALUE * len(r.bands) * r.grid.height * r.grid.width) for r in requests
    ]
    sizes = pd.DataFrame(rows, columns=["source", "bytes"]).astype({"bytes": "int64"})
    sizes = sizes.assign(chips=1, requests=[parts(size) for size in sizes["bytes"]])
    by_source = sizes.groupby("source")[["chips", "requests", "bytes"]].sum().astype("int64")
    n, (low, high) = int(by_source["requests"].sum()), ASSUMED_EECU_SECONDS
    return Estimate(
        by_source=by_source,
        minutes=max(n * ASSUMED_SECONDS / policy.concurrency, n / REQUESTS_A_SECOND) / 60,
        eecu_hours_low=n * low / 3600,
        eecu_hours_high=n * high / 3600,
        basis=f"{policy.concurrency} requests at once, {ASSUMED_SECONDS:.2g} s each (assumed); "
        f"chips only: the scene index comes on top; {low:g} to {high:g} EECU-seconds a request is "
        "assumed, not known: no figure for chips is published. Try chips.build(..., limit=200), "
        "then read the EECU-seconds used from the project's Metrics Explorer; noncommercial quota "
        f"in EECU-hours a month: {TIERS}.",
    )


def parts(size_bytes: int) -> int:
    """Requests for one chip: quartered until each part is within the payload limit."""
    n = 1
    while size_bytes > n * PAYLOAD_BYTES:
        n *= 4
    return n


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB" if n_bytes < 999.5 else f"{n_bytes:,.0f} TB"


def _duration(minutes: float) -> str:
    if minutes < 1:
        return "a minute"
    if minutes < 100:
        return f"{minutes:.0f} minutes"
    hours = minutes / 60
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"


# ---- the archive ---------------------------------------------------------------------------------


class EarthEngineArchive:
    """Scenes, chips and series from Google Earth Engine.

    Parameters
    ----------
    project : the Google Cloud project, as in ``connect``, which is called when first needed
    cache_dir : where the pieces of the scene index and of series are kept, so that an interrupted
        one goes on; without it they are asked for every time
    policy : calls in flight, attempts, deadline
    footprint_m : float, m
        Side of the square over which ``cloud_fraction`` and ``valid_fraction`` are counted.
    client : fetches chips on a Dask cluster instead of in threads of this process
    service_account_key : as in ``connect``
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

    def estimate(self, requests: Iterable[ChipRequest]) -> Estimate:
        """What fetching these chips will cost; see ``estimate_cost``."""
        return estimate_cost(requests, policy=self.policy)

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
