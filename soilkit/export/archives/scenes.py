"""What archives share: places of stations, tables of scenes and series, passes, a question."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from soilkit import contracts, sources
from soilkit.constants import PASS_SECONDS, STATIC_SCENE
from soilkit.contracts import Archive, Chip, ChipRequest, Failure
from soilkit.errors import ContractError, DeclinedError
from soilkit.sources import Source

_COLUMNS = [column.name for column in contracts.SCENES.columns]
_KINDS = {"string": "category", "time": "datetime64[us]", "float": "float64"}
_DAY = np.timedelta64(86_400_000_000, "us")
QUESTION = "Go ahead? [y/N] "


def places_of(stations: pd.DataFrame) -> pd.DataFrame:
    """One row a station: ``station_id``, ``longitude``, ``latitude``.

    Raises ``ContractError`` where the table lacks a column, a station its coordinates on Earth, or
    one has several.
    """
    columns = ["station_id", "longitude", "latitude"]
    if not isinstance(stations, pd.DataFrame):
        raise ContractError(f"Wanted a stations table, found {type(stations).__name__}.")
    contracts.check(stations, contracts.PLACES)
    places = stations[columns].drop_duplicates("station_id").reset_index(drop=True)
    lost = places.station_id[~np.isfinite(places[columns[1:]].to_numpy(float)).all(axis=1)]
    lost = [*lost, *contracts.apart(stations)]
    if lost:
        raise ContractError(
            f"{len(lost)} stations have no coordinates, {lost[0]} the first, or stand at several "
            "places: give each place a station of its own, or leave these stations out."
        )
    return places.astype({"station_id": str, "longitude": float, "latitude": float})


def scenes_table(source: str, rows: Any) -> pd.DataFrame:
    """A scenes table (contract SCENES) of one source from rows of its other columns, in order."""
    table = pd.DataFrame(rows, columns=_COLUMNS).assign(source=source)
    texts = {c.name: "str" for c in contracts.SCENES.columns if c.kind == "string"}
    kinds = {c.name: _KINDS[c.kind] for c in contracts.SCENES.columns}
    return table.astype(texts).astype(kinds)


def scenes_everywhere(
    source: str, images: pd.DataFrame, *, places: pd.DataFrame, valid_fraction: float = np.nan
) -> pd.DataFrame:
    """A scenes table of images that cover every place, station after station.

    ``images`` has ``scene_id``, ``start`` and ``end``, distinct; ``places`` are those of
    ``places_of``; ``valid_fraction`` is every scene's.
    """
    n, m = len(places), len(images)
    image, station = np.tile(np.arange(m), n), np.repeat(np.arange(n), m)
    none = np.zeros(n * m, dtype=np.int8)
    table = {
        "source": _encoded([source], none),
        "scene_id": _encoded(images["scene_id"], image),
        "station_id": _encoded(places["station_id"], station),
        "start": _us(images["start"])[image],
        "end": _us(images["end"])[image],
        "cloud_fraction": np.full(n * m, np.nan),
        "orbit": _encoded([""], none),
        "valid_fraction": np.full(n * m, valid_fraction),
    }
    return pd.DataFrame(table)[_COLUMNS]


def interval(source: Source, stamps: np.ndarray, *, dated_by: str = "") -> pd.DataFrame:
    """``start`` and ``end`` of scenes from their stamps, datetime64[us] (scene,).

    ``dated_by`` says what a stamp is, where it is not what the source's row says: "instant", any
    moment of the "day" (UTC), "start", "middle" or "end" of a composite. Composites that restart
    with the year end with it.
    """
    stamps = np.asarray(stamps).astype("datetime64[us]")
    by = dated_by or source.dated_by
    if by in ("instant", "static"):
        return pd.DataFrame({"start": stamps, "end": stamps})
    if by == "day":
        days = stamps.astype("datetime64[D]").astype(stamps.dtype)
        return pd.DataFrame({"start": days, "end": days + _DAY})
    length = sources.duration(source.cadence).astype("timedelta64[us]")
    back = {"start": 0 * length, "middle": length // 2, "end": length}[by]
    start = stamps - back
    end = start + length
    if source.earth_engine is not None and source.earth_engine.new_year:
        length = -(-length // _DAY) * _DAY  # a mean year ends before a leap year does
        end = np.minimum(start + length, (start.astype("datetime64[Y]") + 1).astype(end.dtype))
    return pd.DataFrame({"start": start, "end": end})


def static_image() -> pd.DataFrame:
    """The one image of a static source, without times."""
    never = np.full(1, np.datetime64("NaT"), dtype="datetime64[us]")
    return pd.DataFrame({"scene_id": [STATIC_SCENE], "start": never, "end": never})


def series_table(
    images: pd.DataFrame, values: np.ndarray, *, places: pd.DataFrame, bands: Sequence[str]
) -> pd.DataFrame:
    """Rows (station, image) with a value in any band, station after station.

    ``images`` has ``scene_id``, ``start`` and ``end``; ``values`` are (station, image, band), NaN
    where there is none; ``bands`` are names in their order.
    """
    station, image = np.nonzero(np.isfinite(values).any(axis=2))
    table: dict[str, Any] = {
        "station_id": _encoded(places["station_id"], station),
        "scene_id": _encoded(images["scene_id"], image),
        "start": _us(images["start"])[image],
        "end": _us(images["end"])[image],
    }
    return pd.DataFrame(table | {b: values[station, image, k] for k, b in enumerate(bands)})


def _encoded(names: Any, codes: np.ndarray) -> pd.Categorical:
    """A categorical column from distinct names and the place of each row's among them."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(np.asarray(names), dtype="str"))


def _us(times: pd.Series) -> np.ndarray:
    return times.to_numpy().astype("datetime64[us]")


def pass_numbers(images: pd.DataFrame, *, flight: list[str]) -> pd.Series:
    """A number for each image's pass: slices of one flight begin less than a minute after its end.

    ``images`` have ``start``, ``end`` and the columns of ``flight``, which images of one pass have
    in common, such as station and orbit; the numbers stand on their index.
    """
    images = images.astype(dict.fromkeys(("start", "end"), "datetime64[us]"))
    ordered = images.sort_values([*flight, "start"], kind="stable")
    latest = ordered.groupby(flight, sort=False)["end"].cummax().shift()
    apart = ordered["start"] - latest >= pd.Timedelta(seconds=PASS_SECONDS)
    return (apart | ~ordered.duplicated(flight)).cumsum().reindex(images.index)


def refusal(request: ChipRequest, version: str) -> str:
    """Why an archive of this version cannot meet a request of a source that it has; or nothing."""
    row = sources.get(request.source)
    if request.version and request.version != version:
        return f"asked of {request.version}, this is {version}"
    unknown = set(request.bands) - {band.name for band in row.bands}
    if unknown:
        return f"{request.source} has no band {', '.join(sorted(unknown))}"
    if not row.is_static and np.isnat(request.time):
        return f"a scene of {request.source} needs a time"
    return ""


def chip_of(request: ChipRequest, values: np.ndarray) -> Chip | Failure:
    """The chip of a request's pixels (band, row, col), unless they hold nothing."""
    if not np.isfinite(values).any():
        return Failure(f"{request.scene_id} holds nothing over {request.station_id}.")
    return Chip(np.ascontiguousarray(values), tuple(request.bands), request.grid)


def all_scenes(
    archive: Archive, stations: pd.DataFrame, *, sources: Iterable[str], start: Any, end: Any
) -> pd.DataFrame:
    """The scenes of several sources over the stations, source after source (contract SCENES).

    Names stay dictionary-encoded, which ``pandas.concat`` gives up where their dictionaries differ:
    six years of three-hourly fields over 1,300 stations are 23 million rows. Raises as
    ``archive.scenes`` does.
    """
    tables = [archive.scenes(stations, name, start, end) for name in sources]
    columns = {}
    for name in _COLUMNS:
        parts = [table.pop(name) for table in tables]  # each is freed once it is copied
        columns[name] = _joined(parts) if parts else pd.Series(dtype=object)
    return pd.DataFrame(columns, copy=False)


def _joined(parts: list[pd.Series]) -> Any:
    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        return pd.api.types.union_categoricals(parts)
    return np.concatenate([part.to_numpy() for part in parts])


def confirm(
    archive: Archive,
    requests: Sequence[ChipRequest],
    *,
    yes: bool = False,
    ask: Callable[[str], str] = input,
) -> Any:
    """Show what fetching the chips of ``chips.plan`` will cost, and ask before it is spent.

    ``yes`` is the answer of scripts and papermill, who are not asked. Returns the archive's
    estimate, to be displayed; None where nothing is to be fetched, or fetching costs nothing.
    Raises ``DeclinedError`` when the answer is no, or there is nobody to ask.
    """
    if not requests or not hasattr(archive, "estimate"):
        return None
    estimate = archive.estimate(requests)
    if yes:
        return estimate
    try:
        answer = ask(f"{estimate}\n{QUESTION}")
    except Exception as error:  # no terminal: EOFError; no front end: Jupyter's own error
        raise DeclinedError(
            f"Fetching {len(requests):,} chips from {archive.name} has a cost, and there is nobody "
            f"to ask ({type(error).__name__}). Read the estimate, then pass yes=True:\n{estimate}"
        ) from error
    if answer.strip().lower() not in ("y", "yes"):
        raise DeclinedError(
            f"Nothing was asked of {archive.name}: the answer was {answer.strip() or 'no'!r}. "
            "Answer y, pass yes=True, or try a few chips first with chips.build(..., limit=200)."
        )
    return estimate
