"""Which scenes and which values: asked a year and place at a time, kept on disk, put together."""

import contextlib
import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from soilkit import sources
from soilkit.errors import BoundError, StoreError, TimeZoneError
from soilkit.export.archives.earthengine import expressions
from soilkit.export.archives.earthengine.connection import features
from soilkit.export.archives.earthengine.executor import Fault, Policy, ServiceError, run
from soilkit.export.archives.earthengine.expressions import (
    SLICES,
    STAMPS,
    Piece,
    layer,
)
from soilkit.export.archives.scenes import (
    interval,
    pass_numbers,
    scenes_table,
    series_table,
    static_image,
)
from soilkit.files import write_whole
from soilkit.sources import Source

log = logging.getLogger(__name__)
FORMAT_VERSION = 1
DIGEST_BYTES = 32
GROWING = np.timedelta64(90, "D")  # archives still receive scenes of the last weeks
HOUR = np.timedelta64(3_600_000_000, "us")
SHORTEST = np.timedelta64(2, "D")  # a piece is not halved below
BAR_AFTER_S = 3.0
KNOWN_SHARE = 0.9  # of a footprint's data, whose clouds must be known for a cloud fraction
MOST_VALUES, MOST_PLACES = 5000, 40  # pixels that one request for a series reads, and its places
US = "datetime64[us]"
FLIGHT = ["station_id", "orbit"]


class ScenesCache:
    """Tables on disk, each under the hash of everything that decides it; none without a folder.

    A file is parquet behind its SHA-256: flipped bits of parquet alone may read as other times.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def open(self) -> None:
        """Make the folder and write to it once, before anything is asked that could not be kept."""
        if self.folder is not None:
            with self._named_errors():
                self.folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=self.folder).close()

    def path(self, source: str, end: np.datetime64, *words: str) -> Path | None:
        """Where a table is kept; None where it is not: scenes of the last weeks still arrive."""
        if self.folder is None or end > np.datetime64("now", "us") - GROWING:
            return None
        asset = sources.get(source).asset
        text = json.dumps([FORMAT_VERSION, repr(layer(source)), asset, *words])
        return self.folder / source / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.table"

    def read(self, path: Path | None) -> pd.DataFrame | None:
        """What is kept there; a damaged file counts as none."""
        if path is None or not path.exists():
            return None
        try:
            kept = path.read_bytes()
            digest, body = kept[:DIGEST_BYTES], kept[DIGEST_BYTES:]
            if hashlib.sha256(body).digest() != digest:
                raise ValueError("another SHA-256")
            return pd.read_parquet(io.BytesIO(body))
        except Exception:  # the reader's own errors have no common base
            log.warning("%s is damaged; its scenes are asked for again.", path)
            return None

    def write(self, path: Path | None, table: pd.DataFrame) -> None:
        """Keep a table, whole or not at all."""
        if path is not None:
            with self._named_errors():
                body = table.to_parquet()
                kept = hashlib.sha256(body).digest() + body
                write_whole(path, lambda part: part.write_bytes(kept))

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            fault = error.__cause__ or error
            raise StoreError(
                f"The scene index cannot be kept in {self.folder} ({fault}). What is there stays "
                "good: free some space, or name another cache_dir, and call again."
            ) from error


@dataclass(frozen=True)
class SceneIndex:
    """Answers questions about many places and years: which scenes, which values.

    Every method raises ``ServiceError`` when some of it did not come (what came is kept, and the
    next call goes on there), and ``StoreError`` when the cache cannot be written.
    """

    cache: ScenesCache
    policy: Policy
    footprint_m: float
    login: Callable[[], Any]

    def passes(self, source: str, places: pd.DataFrame, *, period: tuple[Any, Any]) -> pd.DataFrame:
        """A scenes table of images that differ from place to place."""
        spans = years(source, period=period)
        pieces = [
            (row.station_id, Piece(source, *span, ((row.longitude, row.latitude),)))
            for row in places.itertuples()
            for span in spans
        ]
        if not pieces:
            return scenes_table(source, [])
        job = IndexJob(self.footprint_m)
        # The table of many pieces is kept, too: one file is read a hundred times faster.
        words = [*map(str, moments(period)), places.to_csv(index=False)]
        whole = self.cache.path(source, pieces[-1][1].end, repr(job), *words)
        kept = self.cache.read(whole)
        if kept is not None:
            return kept
        answers = self._collect([piece for _, piece in pieces], job)
        parts = [answers[piece].assign(station_id=station) for station, piece in pieces]
        rows = pd.concat(parts).drop_duplicates(["station_id", "scene_id"])
        rows = merge_slices(rows) if sources.get(source).sliced else fullest_of_pass(rows)
        rows = rows[_ends_within(rows, period)]
        order = pd.Index(places["station_id"]).get_indexer(rows["station_id"])
        rows = rows.assign(order=order).sort_values(["order", "end", "scene_id"])
        table = scenes_table(source, rows.reset_index(drop=True))
        self.cache.write(whole, table)
        return table

    def images(self, source: str, period: tuple[Any, Any]) -> pd.DataFrame:
        """The images of a global product, sorted: ``scene_id``, ``start``, ``end``."""
        if sources.get(source).is_static:
            return static_image()
        pieces = [Piece(source, start, end) for start, end in years(source, period=period)]
        answers = self._collect(pieces, IndexJob(self.footprint_m))
        rows = pd.concat([static_image()[:0], *answers.values()]).drop_duplicates("scene_id")
        rows = rows[_ends_within(rows, period)].sort_values(["end", "scene_id"])
        return rows.reset_index(drop=True)

    def series(self, source: str, places: pd.DataFrame, *, period: tuple[Any, Any]) -> pd.DataFrame:
        """Values at every place: a few places a request, or a request's worth of time a place."""
        row, n_places = sources.get(source), len(places)
        bands = [band.name for band in row.bands]
        at = list(zip(places["longitude"], places["latitude"], strict=True))
        images, values = [static_image()[:0]], [np.empty((0, n_places * len(bands)))]
        for start, end in years(source, period=period) if n_places else []:
            n_images = max(1, int((end - start) / cadence(row)))
            n = min(MOST_PLACES, max(1, MOST_VALUES // n_images))
            groups = [tuple(at[k : k + n]) for k in range(0, n_places, n)]
            pieces = [Piece(source, start, end, group) for group in groups]
            answers = self._collect(pieces, SeriesJob(tuple(bands)))
            parts = [answers[piece].set_index("scene_id") for piece in pieces]
            stamps = pd.concat([part[["start", "end"]].reset_index() for part in parts])
            stamps = stamps.drop_duplicates("scene_id").sort_values(["end", "scene_id"])
            year = pd.concat([part.drop(columns=["start", "end"]) for part in parts], axis=1)
            images.append(stamps)
            values.append(year.loc[stamps["scene_id"]].to_numpy())
        table = pd.concat(images, ignore_index=True)
        keep = _ends_within(table, period)
        cube = np.concatenate(values)[keep].reshape(keep.sum(), n_places, len(bands))
        layers = [band.valid(cube[:, :, k].T) for k, band in enumerate(row.bands)]
        return series_table(table[keep], np.stack(layers, 2), places=places, bands=bands)

    def _collect(
        self, pieces: Iterable[Piece], job: "IndexJob | SeriesJob"
    ) -> dict[Piece, pd.DataFrame]:
        """The table of every piece: from the cache, or asked for after a login and put there."""
        paths = {p: self.cache.path(p.source, p.end, repr(job), repr(p)) for p in pieces}
        tables = {p: table for p in paths if (table := self.cache.read(paths[p])) is not None}
        missing = [piece for piece in paths if piece not in tables]
        if not missing:
            return tables
        self.cache.open()
        self.login()
        faults: list[Fault] = []
        name = missing[0].source
        bar = tqdm(total=len(missing), desc=f"{name} index", unit="piece", delay=BAR_AFTER_S)
        running: Any = run(missing, job, policy=self.policy)
        with bar, contextlib.closing(running) as answers:  # an interruption stops its calls at once
            for piece, answer in answers:
                bar.update()
                if isinstance(answer, Fault):
                    faults.append(answer)
                else:
                    self.cache.write(paths[piece], answer)
                    tables[piece] = answer
        if faults:
            raise _missed(faults, of=f"{len(paths)} pieces of {name}")
        return tables


def _missed(faults: list[Fault], *, of: str) -> ServiceError:
    """The error of the pieces that failed; one that will fail again is named first."""
    first = min(faults, key=lambda fault: fault.retry)
    doctor = "" if first.retry else "look at the source with doctor.examine, then "
    reason = f"{len(faults)} of {of} did not come ({first.reason}); {doctor}call again to ask "
    return ServiceError(replace(first, reason=f"{reason}for them alone."))


class PieceJob:
    """A question about a piece; what asks for too much is asked for in halves of its time."""

    def split(self, item: Piece) -> list[Piece]:
        """The two halves, unless they would be shorter than two days."""
        middle = item.start + (item.end - item.start) // 2
        if middle - item.start < SHORTEST:
            return []
        return [replace(item, end=middle), replace(item, start=middle)]

    def merge(self, item: Piece, parts: list[pd.DataFrame]) -> pd.DataFrame:
        """The halves' rows, one after the other."""
        return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class IndexJob(PieceJob):
    """Lists the images of a piece."""

    footprint_m: float

    def __call__(self, item: Piece) -> pd.DataFrame:
        """``scene_id``, ``start``, ``end``; at a place also orbit, valid and cloud fraction."""
        row = sources.get(item.source)
        expression = expressions.index(item, footprint_m=self.footprint_m)
        answer = features(expression, [*STAMPS, "orbit", "valid", "known", "cloud"])
        table = dated(row, answer)
        if not item.places:
            return table
        valid = answer["valid"]
        cloud = cloud_fraction(answer["cloud"], answer["known"], valid=valid)
        table["orbit"] = answer["orbit"].astype("str").fillna("").str.lower()
        table["valid_fraction"], table["cloud_fraction"] = valid, cloud
        unknown = cloud.isna() & (valid > 0)
        if layer(item.source).cloud_scores and unknown.any():
            table.loc[unknown, "cloud_fraction"] = self._from_scores(item, table[unknown])
        return self._passes(item, table) if row.sliced else table

    def _passes(self, item: Piece, table: pd.DataFrame) -> pd.DataFrame:
        """One row a pass; where its slices may overlap, the valid fraction under all of them."""
        valid = table.set_index("scene_id")["valid_fraction"]
        merged = merge_slices(table.assign(station_id="")).drop(columns="station_id")
        slices = [valid.loc[scene.split(SLICES)] for scene in merged["scene_id"]]
        shared = np.array([(one > 0).sum() > 1 and one.max() < 1 for one in slices], dtype=bool)
        if shared.any():
            scenes = merged.loc[shared, "scene_id"].tolist()
            expression = expressions.unions(item, scenes, footprint_m=self.footprint_m)
            answer = features(expression, ["scene_id", "valid"]).set_index("scene_id")
            merged.loc[shared, "valid_fraction"] = answer["valid"].reindex(scenes).to_numpy()
        return merged

    def _from_scores(self, item: Piece, table: pd.DataFrame) -> np.ndarray:
        """Cloud fractions of scenes without flags: Cloud Score+, else s2cloudless, else NaN."""
        ids = table["scene_id"].tolist()
        expression = expressions.clouds(item, ids, footprint_m=self.footprint_m)
        names = ["score", "score_known", "probability", "probability_known"]
        scores = features(expression, ["scene_id", *names]).set_index("scene_id").reindex(ids)
        valid = table["valid_fraction"].set_axis(ids)
        clouds = cloud_fraction(scores["score"], scores["score_known"], valid=valid)
        likely = cloud_fraction(scores["probability"], scores["probability_known"], valid=valid)
        return clouds.fillna(likely).to_numpy()


@dataclass(frozen=True)
class SeriesJob(PieceJob):
    """Reads the native pixels of a piece's images at its places."""

    bands: tuple[str, ...]

    def __call__(self, item: Piece) -> pd.DataFrame:
        """``scene_id``, ``start``, ``end``, and a column ``v<place>_<band>`` each."""
        names = [f"v{k}_{j}" for k in range(len(item.places)) for j in range(len(self.bands))]
        answer = features(expressions.values(item, self.bands), [*STAMPS, *names])
        # The assets hold single precision; their digits beyond it are the service's own.
        pixels = answer[names].astype(np.float32).astype(float)
        return pd.concat([dated(sources.get(item.source), answer), pixels], axis=1)


def cloud_fraction(cloud: pd.Series, known: pd.Series, *, valid: pd.Series) -> pd.Series:
    """The cloudy fraction (scene,) where it is known, else NaN: what is masked is never clear.

    ``cloud`` is the fraction of the known points that is cloud, ``known`` and ``valid`` are the
    fractions of the footprint with a flag and with data.

    Examples
    --------
    >>> known, one = pd.Series([1.0, 0.5, 0.0]), pd.Series(np.ones(3))
    >>> cloud_fraction(pd.Series([0.2, 0.0, 0.0]), known, valid=one).tolist()
    [0.2, nan, nan]
    """
    return cloud.where((known > 0) & (known >= KNOWN_SHARE * valid))


def dated(source: Source, stamps: pd.DataFrame) -> pd.DataFrame:
    """``scene_id``, ``start`` and ``end`` of images from ``begin_ms`` and ``end_ms``, NaN for none.

    What is instantaneous keeps its first stamp. A composite ends a cadence after its start; a later
    stamped end counts, an earlier one does not: some assets stamp the last day's beginning, and a
    scene that ends too early reads the future. Where a product restarts with the year, so does its
    last composite end with it, whatever is stamped.

    Examples
    --------
    >>> day = np.datetime64("2019-12-31", "ms").astype(int)
    >>> stamps = pd.DataFrame({"scene_id": ["a"], "begin_ms": [day], "end_ms": [day]})
    >>> dated(sources.get("modis_lai"), stamps)["end"].astype(str).tolist()
    ['2020-01-01']
    """
    begin, end = (
        pd.to_datetime(stamps[name].round(), unit="ms").to_numpy().astype(US)
        for name in ("begin_ms", "end_ms")
    )
    table, stamped = interval(source, begin), np.fmax(begin, end)
    if source.sliced:
        table["end"] = stamped
    elif source.dated_by != "instant" and not layer(source.name).new_year:
        table["end"] = np.maximum(table["end"], stamped)
    return table.assign(scene_id=stamps["scene_id"].astype("str"))[["scene_id", "start", "end"]]


def cadence(source: Source) -> np.timedelta64:
    """The usual step between scenes, datetime units of microseconds."""
    return sources.duration(source.cadence).astype("timedelta64[us]")


def years(source: str, *, period: tuple[Any, Any]) -> list[tuple[np.datetime64, np.datetime64]]:
    """Spans of starts, cut at New Year, that hold every scene whose end lies in the period.

    An hour after the end finds the rest of a pass that began before it.
    """
    row, (start, end) = sources.get(source), moments(period)
    if not start < end:
        return []
    first: Any = start - (HOUR if row.dated_by == "instant" else 2 * cadence(row))
    last: Any = end + (HOUR if row.sliced else 0 * HOUR)
    cuts = np.arange(first.astype("datetime64[Y]") + 1, last.astype("datetime64[Y]") + 1)
    edges = [first, *(c for c in cuts.astype(US) if first < c < last), last]
    return list(zip(edges[:-1], edges[1:], strict=True))


def moments(period: tuple[Any, Any]) -> tuple[np.datetime64, np.datetime64]:
    """Start and end of a period, UTC.

    Raises ``BoundError`` for what is no moment, ``TimeZoneError`` for a time with a zone.
    """
    times = []
    for name, given in zip(("start", "end"), period, strict=True):
        if getattr(given, "tzinfo", None) is not None:
            raise TimeZoneError(
                f"{name} carries the zone {given.tzinfo}; times are naive UTC. Convert with "
                ".tz_convert('UTC').tz_localize(None)."
            )
        try:
            moment = np.datetime64(given, "us")
        except (ValueError, TypeError):
            moment = np.datetime64("NaT")
        if np.isnat(moment):
            raise BoundError(f"{name} is a moment such as '2019-06-01', UTC; found {given!r}.")
        times.append(moment)
    return times[0], times[1]


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
    rows = rows.sort_values([*FLIGHT, "start", "scene_id"])
    rows = rows.drop_duplicates([*FLIGHT, "start", "end"], keep="last", ignore_index=True)
    if not len(rows):
        return rows
    first = np.flatnonzero(~pass_numbers(rows, flight=FLIGHT).duplicated())
    ids = np.split(rows["scene_id"].to_numpy(object), first[1:])
    return (
        rows.iloc[first]
        .reset_index(drop=True)
        .assign(
            scene_id=pd.array([SLICES.join(one) for one in ids], dtype="str"),
            end=np.maximum.reduceat(rows["end"].to_numpy(), first),
            valid_fraction=np.add.reduceat(rows["valid_fraction"].to_numpy(), first).clip(max=1.0),
        )
    )


def fullest_of_pass(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a pass: of the overlapping tiles of one pass the one that holds most of a footprint.

    They show the same pixels, but are stamped seconds apart: the join would take the later one,
    though it may hold no more than a sliver. ``rows`` are as in ``merge_slices``.
    """
    rows = rows.sort_values(["station_id", "start", "scene_id"], ignore_index=True)
    ranked = rows.assign(number=pass_numbers(rows, flight=FLIGHT)).sort_values(
        ["number", "valid_fraction", "scene_id"], ascending=[True, False, True]
    )
    return rows.loc[ranked.drop_duplicates("number").index.sort_values()].reset_index(drop=True)


def _ends_within(rows: pd.DataFrame, period: tuple[Any, Any]) -> np.ndarray:
    """Which rows end in the half-open period."""
    start, end = moments(period)
    ends = rows["end"].to_numpy().astype(US)
    return (ends >= start) & (ends < end)
