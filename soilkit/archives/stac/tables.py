"""Scenes and series tables from records of items."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from soilkit.archives.stac import geometry
from soilkit.archives.stac.items import Record, grouped, scene_id
from soilkit.sources import Source

STATIC = "static"
SCENES = ["scene_id", "station_id", "start", "end", "cloud_fraction", "orbit", "valid_fraction"]
KEYS = ["station_id", "scene_id", "start", "end"]
Period = tuple[np.datetime64, np.datetime64]


def ending_in(records: Iterable[Record], period: Period) -> list[Record]:
    """Records whose end lies in [start, end); static ones always."""
    return [r for r in records if np.isnat(r.end) or period[0] <= r.end < period[1]]


def scenes_of(
    records: Iterable[Record], source: Source, *, points: np.ndarray
) -> Iterator[tuple[list[Record], dict[str, Any]]]:
    """The scenes that cover some of the points, each with its records and its row."""
    box = geometry.box_of(points)
    near = [r for r in records if geometry.meets(r.box, box)]
    inside = {id(r): geometry.covered(r.footprint, points) for r in near}
    for group in grouped([r for r in near if inside[id(r)].any()], source):
        proper = all(r.is_proper for r in group)
        covered = np.any([inside[id(r)] for r in group], axis=0)
        yield (
            group,
            {
                "scene_id": STATIC if source.is_static else scene_id(group),
                "start": min(r.start for r in group),
                "end": max(r.end for r in group),
                "cloud_fraction": float(np.max([r.cloud_fraction for r in group])),
                "orbit": group[0].orbit,
                "valid_fraction": float(covered.mean()) if proper else np.nan,
            },
        )


def scenes_table(source: str, rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows by station as the contract's scenes table."""
    table = pd.DataFrame(list(rows), columns=SCENES).assign(source=source)
    kinds = dict.fromkeys(("source", "scene_id", "station_id", "orbit"), "category")
    kinds |= {"start": "datetime64[us]", "end": "datetime64[us]"}
    kinds |= {"cloud_fraction": "float64", "valid_fraction": "float64"}
    return table[["source", *SCENES]].astype(kinds)


def series_table(bands: list[str], rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of stations, scenes and band values as a series table."""
    table = pd.DataFrame(rows, columns=[*KEYS, *bands])
    kinds: dict[str, Any] = {"station_id": "category", "scene_id": "category"}
    kinds |= {"start": "datetime64[us]", "end": "datetime64[us]"}
    kinds |= dict.fromkeys(bands, "float32")
    return table.astype(kinds)
