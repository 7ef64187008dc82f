"""Tables column by column: places, scenes and series, however many rows they have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from soilkit.archives.earthengine.layers import SLICES

STATIC_SCENE = "static"
SAME_PASS = np.timedelta64(60, "s")
_ORDER = ["source", "scene_id", "station_id", "start", "end"]
_ORDER += ["cloud_fraction", "orbit", "valid_fraction"]


def repeated(names: Any, codes: np.ndarray) -> pd.Categorical:
    """A categorical column from distinct names and the place of each row's among them."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(np.asarray(names), dtype="str"))


def at_every_place(source: str, images: pd.DataFrame, *, found: pd.DataFrame) -> pd.DataFrame:
    """A scenes table of images that cover every place, station after station.

    Parameters
    ----------
    source : str
    images : DataFrame with ``scene_id``, ``start``, ``end``, distinct
    found : places
    """
    n, m = len(found), len(images)
    image = np.tile(np.arange(m, dtype=np.int32), n)
    station = np.repeat(np.arange(n, dtype=np.int32), m)
    table = {
        "source": repeated([source], np.zeros(n * m, dtype=np.int8)),
        "scene_id": repeated(images["scene_id"].to_numpy(), image),
        "station_id": repeated(found["station_id"].to_numpy(), station),
        "start": np.tile(_us(images["start"]), n),
        "end": np.tile(_us(images["end"]), n),
        "cloud_fraction": np.full(n * m, np.nan),
        "orbit": repeated([""], np.zeros(n * m, dtype=np.int8)),
        "valid_fraction": np.full(n * m, np.nan),
    }
    return pd.DataFrame(table)[_ORDER]


def still_image() -> pd.DataFrame:
    """The one image of a static source."""
    nat = np.full(1, np.datetime64("NaT"), dtype="datetime64[us]")
    return pd.DataFrame({"scene_id": [STATIC_SCENE], "start": nat, "end": nat})


def scenes(source: str, rows: pd.DataFrame) -> pd.DataFrame:
    """A scenes table from rows that have all but ``source``, sorted by station, end and scene."""
    kinds = dict.fromkeys(("source", "scene_id", "station_id", "orbit"), "category")
    kinds |= {"start": "datetime64[us]", "end": "datetime64[us]"}
    kinds |= {"cloud_fraction": "float64", "valid_fraction": "float64"}
    texts = dict.fromkeys(("scene_id", "station_id", "orbit"), "str")
    return rows.assign(source=source)[_ORDER].astype(texts).astype(kinds)


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
    number = _pass_number(rows)
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
    ranked = rows.assign(number=_pass_number(rows)).sort_values(
        ["number", "valid_fraction", "scene_id"], ascending=[True, False, True]
    )
    return rows.loc[ranked.drop_duplicates("number").index.sort_values()].reset_index(drop=True)


def _pass_number(rows: pd.DataFrame) -> pd.Series:
    """Which pass each row belongs to; rows sorted by station and start."""
    apart = rows["start"] - rows["end"].shift() > SAME_PASS
    other = (rows["station_id"] != rows["station_id"].shift()) | (
        rows["orbit"] != rows["orbit"].shift()
    )
    return (apart | other).cumsum()


def series(
    images: pd.DataFrame, values: np.ndarray, *, found: pd.DataFrame, bands: Sequence[str]
) -> pd.DataFrame:
    """Rows (station, image) with a value in any band, station after station.

    Parameters
    ----------
    images : DataFrame with ``scene_id``, ``start``, ``end``
    values : (station, image, band), NaN where there is none
    found : places
    bands : names, in the order of ``values``
    """
    station, image = np.nonzero(np.isfinite(values).any(axis=2))
    table: dict[str, Any] = {
        "station_id": repeated(found["station_id"].to_numpy(), station),
        "scene_id": repeated(images["scene_id"].to_numpy(), image),
        "start": _us(images["start"])[image],
        "end": _us(images["end"])[image],
    }
    return pd.DataFrame(table | {b: values[station, image, k] for k, b in enumerate(bands)})


def _us(times: pd.Series) -> np.ndarray:
    return times.to_numpy().astype("datetime64[us]")
