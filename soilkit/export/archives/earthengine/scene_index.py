"""Jobs that list scenes and read series, and what becomes of their rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from soilkit.export.archives.earthengine import expressions
from soilkit.export.archives.earthengine.connection import ensure, features, value
from soilkit.export.archives.earthengine.executor import Policy
from soilkit.export.archives.earthengine.expressions import (
    BEGIN,
    CLOUD,
    END,
    ID,
    KNOWN,
    ORBIT_EXPRESSIONS,
    SLICES,
    VALID,
    Piece,
    PieceJob,
    Shelf,
    collect,
    moments,
    years,
)
from soilkit.export.archives.scenes import (
    pass_numbers,
    scenes_table,
    series_table,
    static_image,
)


def merge_slices(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a pass: images of a station that follow each other within a minute become one scene.

    Ids are joined with "+" in order of time, start and end span the pass, and valid fractions add
    up, as they do where images do not overlap. Of an image that the archive holds in two
    processings the last by name stays.

    Parameters
    ----------
    rows : DataFrame with ``station_id``, ``scene_id``, ``start``, ``end``, ``orbit``,
        ``valid_fraction``, ``cloud_fraction``
    """
    if not len(rows):
        return rows
    rows = rows.sort_values(["station_id", "start", "scene_id"], ignore_index=True)
    rows = rows.drop_duplicates(["station_id", "start", "end"], keep="last", ignore_index=True)
    number = pass_numbers(rows, flight=FLIGHT)
    several = number.duplicated(keep=False)
    merged = (
        rows[several]
        .groupby(number[several])
        .agg(
            station_id=("station_id", "first"),
            scene_id=("scene_id", SLICES.join),
            start=("start", "min"),
            end=("end", "max"),
            orbit=("orbit", "first"),
            valid_fraction=("valid_fraction", "sum"),
            cloud_fraction=("cloud_fraction", "first"),
        )
    )
    merged["valid_fraction"] = merged["valid_fraction"].clip(upper=1.0)
    alone = rows.loc[~several, merged.columns].set_axis(number[~several])
    return pd.concat([alone, merged]).sort_index().reset_index(drop=True)


def fullest_of_pass(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a pass: of the overlapping tiles of one pass the one that holds most of a footprint.

    They show the same pixels, but are stamped seconds apart: the join would take the later one,
    though it may hold no more than a sliver.

    Parameters
    ----------
    rows : as in ``merge_slices``
    """
    rows = rows.sort_values(["station_id", "start", "scene_id"], ignore_index=True)
    ranked = rows.assign(number=pass_numbers(rows, flight=FLIGHT)).sort_values(
        ["number", "valid_fraction", "scene_id"], ascending=[True, False, True]
    )
    return rows.loc[ranked.drop_duplicates("number").index.sort_values()].reset_index(drop=True)


# The jobs that list scenes and read series, a piece at a time, and what becomes of their rows.

# The part of a footprint's data whose clouds must be known before its cloud fraction is.
KNOWN_SHARE = 0.9
MOST_VALUES = 5000  # pixels that one request for a series reads
MOST_PLACES = 40
US = "datetime64[us]"
FLIGHT = ["station_id", "orbit"]


@dataclass(frozen=True)
class IndexJob(PieceJob):
    """Lists the images of a piece; picklable."""

    footprint_m: float

    def __call__(self, item: Piece) -> pd.DataFrame:
        """Scene ids and times; at a place also orbit, valid and cloud fraction."""
        ensure()
        rows = features(expressions.index(item, footprint_m=self.footprint_m))
        table = stamped(item.source, rows)
        if not item.places:
            return table
        valid = column(rows, VALID)
        cloud = cloud_fraction(column(rows, CLOUD), column(rows, KNOWN), valid=valid)
        table["orbit"] = [str(row.get(ORBIT_EXPRESSIONS) or "").lower() for row in rows]
        table["valid_fraction"], table["cloud_fraction"] = valid, cloud
        unknown = np.isnan(cloud) & (valid > 0)
        if expressions.layer(item.source)[1].cloud_scores and unknown.any():
            table.loc[unknown, "cloud_fraction"] = self._from_scores(item, table[unknown])
        table = table.astype({"orbit": "str"})
        return self._passes(item, table) if expressions.layer(item.source)[0].sliced else table

    def _passes(self, item: Piece, table: pd.DataFrame) -> pd.DataFrame:
        """One row a pass; where its slices may overlap, the valid fraction under all of them."""
        valid = dict(zip(table["scene_id"], table["valid_fraction"], strict=True))
        merged = merge_slices(table.assign(station_id="")).drop(columns="station_id")
        shared = [s for s in merged["scene_id"] if _is_shared([valid[i] for i in s.split(SLICES)])]
        if shared:
            expression = expressions.unions(item, shared, footprint_m=self.footprint_m)
            merged.loc[merged["scene_id"].isin(shared), "valid_fraction"] = value(expression)
        return merged

    def _from_scores(self, item: Piece, table: pd.DataFrame) -> np.ndarray:
        """Cloud fractions of scenes without flags: Cloud Score+, else s2cloudless, else NaN."""
        ids = table["scene_id"].tolist()
        rows = features(expressions.clouds(item, ids, footprint_m=self.footprint_m))
        by_id = {row[ID]: row for row in rows}
        ordered = [by_id.get(one, {}) for one in ids]
        valid = table["valid_fraction"].to_numpy()
        score, likely = (
            cloud_fraction(column(ordered, name), column(ordered, f"{name}_known"), valid=valid)
            for name in ("score", "probability")
        )
        return np.where(np.isnan(score), likely, score)


def _is_shared(fractions: list[float]) -> bool:
    """Whether several slices hold some of a footprint, and none all of it."""
    return sum(f > 0 for f in fractions) > 1 and max(fractions) < 1


def cloud_fraction(cloud: np.ndarray, known: np.ndarray, *, valid: np.ndarray) -> np.ndarray:
    """The cloudy fraction where it is known, else NaN: what is masked is never clear.

    Parameters
    ----------
    cloud : (scene,), fraction of the known points that is cloud
    known, valid : (scene,), fractions of the footprint with a flag and with data

    Examples
    --------
    >>> one = np.ones(3)
    >>> cloud_fraction(np.array([0.2, 0.0, 0.0]), np.array([1.0, 0.5, 0.0]), valid=one)
    array([0.2, nan, nan])
    """
    with np.errstate(invalid="ignore"):
        return np.where((known > 0) & (known >= KNOWN_SHARE * valid), cloud, np.nan)


def column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """A property of all rows, NaN where it is absent or null."""
    found = [row.get(name) for row in rows]
    return np.array([np.nan if v is None else v for v in found], dtype=float)


def stamped(source: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """``scene_id``, ``start`` and ``end`` of images from their stamps."""
    start, end = expressions.dated(
        expressions.layer(source)[0], _times(rows, BEGIN), end=_times(rows, END)
    )
    ids = pd.Series([row[ID] for row in rows], dtype="str")
    return pd.DataFrame({"scene_id": ids, "start": start, "end": end})


def _times(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    stamps_ms = column(rows, name)
    times = np.nan_to_num(stamps_ms).round().astype(np.int64).astype("datetime64[ms]").astype(US)
    return np.where(np.isnan(stamps_ms), np.datetime64("NaT", "us"), times)


@dataclass(frozen=True)
class SeriesJob(PieceJob):
    """Reads the native pixels of a piece's images at its places; picklable."""

    bands: tuple[str, ...]

    def __call__(self, item: Piece) -> pd.DataFrame:
        """Scene ids, times, and a column ``v<place>_<band>`` each."""
        ensure()
        rows = features(expressions.values(item, self.bands))
        names = [f"v{k}_{j}" for k in range(len(item.places)) for j in range(len(self.bands))]
        # The assets hold single precision; their digits beyond it are the service's own.
        found = {name: column(rows, name).astype(np.float32).astype(float) for name in names}
        return stamped(item.source, rows).assign(**found)


@dataclass(frozen=True)
class Desk:
    """Answers questions about many places and years: which scenes, which values."""

    shelf: Shelf
    policy: Policy
    footprint_m: float
    login: Callable[[], Any] = ensure

    def orbiting(
        self, source: str, found: pd.DataFrame, *, period: tuple[Any, Any]
    ) -> pd.DataFrame:
        """A scenes table of images that differ from place to place."""
        spans = years(source, period=period)
        pieces = {
            Piece(source, start, end, ((row.longitude, row.latitude),)): row.station_id
            for row in found.drop_duplicates(["longitude", "latitude"]).itertuples()
            for start, end in spans
        }
        job = IndexJob(self.footprint_m)
        whole = self.shelf.whole(job, pieces, found=found, period=period)
        kept = self.shelf.read(whole)
        if kept is not None:
            return kept
        answers = self._ask(pieces, job)
        parts = [answers[p].assign(station_id=s) for p, s in pieces.items()]
        rows = pd.concat([_EMPTY, *parts], ignore_index=True)
        rows = rows.drop_duplicates(["station_id", "scene_id"], ignore_index=True)
        sliced = expressions.layer(source)[0].sliced
        rows = merge_slices(rows) if sliced else fullest_of_pass(rows)
        rows = rows[_inside(rows, period)]
        table = scenes_table(source, _at_twins(rows, found))
        self.shelf.write(whole, table)
        return table

    def images(self, source: str, period: tuple[Any, Any]) -> pd.DataFrame:
        """The images of a global product, sorted: ``scene_id``, ``start``, ``end``."""
        if expressions.layer(source)[0].is_static:
            return static_image()
        pieces = [Piece(source, start, end) for start, end in years(source, period=period)]
        answers = self._ask(pieces, IndexJob(self.footprint_m))
        return _sorted([_EMPTY[["scene_id", "start", "end"]], *answers.values()], period)

    def series(
        self, source: str, found: pd.DataFrame, *, bands: tuple[str, ...], period: tuple[Any, Any]
    ) -> pd.DataFrame:
        """Values at every place: a few places a request, or a request's worth of time a place."""
        at = list(zip(found["longitude"], found["latitude"], strict=True))
        parts = []
        for start, end in years(source, period=period):
            images = max(1, int((end - start) / expressions.cadence(expressions.layer(source)[0])))
            n = min(MOST_PLACES, max(1, MOST_VALUES // images))
            groups = [tuple(at[k : k + n]) for k in range(0, len(at), n)]
            pieces = [Piece(source, start, end, group) for group in groups]
            answers = self._ask(pieces, SeriesJob(bands))
            parts.append(_side_by_side([answers[p] for p in pieces], pieces, len(bands)))
        images_table, values = _in_time(parts, (len(at), len(bands)))
        keep = _inside(images_table, period)
        return series_table(images_table[keep], values[:, keep], places=found, bands=bands)

    def _ask(self, pieces: Any, job: Any) -> dict[Piece, pd.DataFrame]:
        return collect(pieces, job, shelf=self.shelf, policy=self.policy, login=self.login)


_EMPTY = pd.DataFrame(
    {
        "scene_id": pd.Series(dtype="str"),
        "start": pd.Series(dtype=US),
        "end": pd.Series(dtype=US),
        "orbit": pd.Series(dtype="str"),
        "valid_fraction": pd.Series(dtype=float),
        "cloud_fraction": pd.Series(dtype=float),
        "station_id": pd.Series(dtype="str"),
    }
)


def _inside(rows: pd.DataFrame, period: tuple[Any, Any]) -> np.ndarray:
    """Which rows end in the half-open period."""
    start, end = moments(period)
    ends = rows["end"].to_numpy().astype(US)
    return (ends >= start) & (ends < end)


def _sorted(parts: list[pd.DataFrame], period: tuple[Any, Any]) -> pd.DataFrame:
    images = pd.concat(parts, ignore_index=True).drop_duplicates("scene_id")
    images = images[_inside(images, period)].sort_values(["end", "scene_id"])
    return images.reset_index(drop=True)


def _at_twins(rows: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The rows of each place for every station that stands there, in the stations' order."""
    twins = found.assign(order=np.arange(len(found)))
    first = twins.drop_duplicates(["longitude", "latitude"]).rename(columns={"station_id": "at"})
    twins = twins.merge(first[["longitude", "latitude", "at"]], on=["longitude", "latitude"])
    rows = rows.rename(columns={"station_id": "at"}).merge(
        twins[["at", "station_id", "order"]], on="at"
    )
    return rows.sort_values(["order", "end", "scene_id"], ignore_index=True)


def _side_by_side(
    answers: list[pd.DataFrame], pieces: list[Piece], n_bands: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """The images of a year and the values of all groups of places: (place, image, band)."""
    stamps = pd.concat([a[["scene_id", "start", "end"]] for a in answers])
    images = stamps.drop_duplicates("scene_id").sort_values(["end", "scene_id"])
    images = images.reset_index(drop=True)
    blocks = []
    for answer, piece in zip(answers, pieces, strict=True):
        at = pd.Index(images["scene_id"]).get_indexer(answer["scene_id"])
        block = np.full((len(images), len(piece.places) * n_bands), np.nan)
        block[at] = answer.drop(columns=["scene_id", "start", "end"]).to_numpy(float)
        blocks.append(block.reshape(len(images), len(piece.places), n_bands))
    return images, np.concatenate(blocks, axis=1).transpose(1, 0, 2)


def _in_time(
    parts: list[tuple[pd.DataFrame, np.ndarray]], shape: tuple[int, int]
) -> tuple[pd.DataFrame, np.ndarray]:
    """The years one after the other."""
    n_places, n_bands = shape
    images = [_EMPTY[["scene_id", "start", "end"]], *(part[0] for part in parts)]
    values = [np.empty((n_places, 0, n_bands)), *(part[1] for part in parts)]
    return pd.concat(images, ignore_index=True), np.concatenate(values, axis=1)
