"""What a store is built of, and whether a new build may add to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from soilkit import sources
from soilkit.chips import manifest
from soilkit.chips.arrays import Shards, create_group
from soilkit.chips.packing import packing_of
from soilkit.chips.requests import chip_size
from soilkit.errors import StoreError
from soilkit.sources import Source


def band_names(source: Source, names: Sequence[str] | None) -> list[str]:
    """The bands to keep: those named, checked, else all of the source."""
    return [source.band(n).name for n in names] if names else [b.name for b in source.bands]


def describe(source: Source, bands: list[str], *, size_px: int) -> dict[str, Any]:
    """What the manifest says of a source."""
    size, pixel_m = chip_size(source, size_px)
    step = packing_of(source)
    return {
        "bands": bands,
        "units": [source.band(b).unit for b in bands],
        "resolution": source.resolution,
        "size_px": size,
        "pixel_size_m": pixel_m,
        "scale_factor": step.scale,
        "add_offset": step.offset,
        "citation": source.citation,
    }


def networks(stations: pd.DataFrame, citations: Mapping[str, str]) -> dict[str, str]:
    """Each network of the stations and how to cite it, empty where nobody said."""
    return {name: citations.get(name, "") for name in sorted(set(stations["network"].astype(str)))}


def plain(value: Any) -> Any:
    """The same value made of what JSON knows."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def prepare(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Make the store, or check that the one there is of the same kind and add the new sources."""
    create_group(path, {})
    if (path / manifest.MANIFEST).exists():
        content = _merged(path, manifest.read_manifest(path), content)
    for name, d in content["sources"].items():
        shards = Shards(path / name / "values", len(d["bands"]), d["size_px"])
        create_group(path / name, {"bands": d["bands"], "resolution": d["resolution"]})
        for left_over in shards.path.glob("*.partial"):  # of a build that was killed
            left_over.unlink()
        if not (shards.path / "zarr.json").exists():
            kept = {"bands": d["bands"], "units": d["units"]}
            shards.create(packing=packing_of(sources.get(name)), attributes=kept)
    manifest.write_manifest(path, content)
    return content


def _merged(path: Path, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    theirs = {name: d for name, d in old["sources"].items() if name in new["sources"]}
    ours = {name: new["sources"][name] for name in theirs}
    for what, had, want in (
        ("archive", old["archive"], new["archive"]),
        ("size_px", old["size_px"], new["size_px"]),
        ("sources", theirs, ours),
    ):
        if had != want:
            raise StoreError(
                f"{path} was built with {what} {had}; this build has {want}. "
                "Choose another folder for it, or build with what is there."
            )
    merged = {**old, **new, "sources": {**old["sources"], **new["sources"]}}
    merged["networks"] = {**old["networks"], **{k: v for k, v in new["networks"].items() if v}}
    merged["networks"] = {**new["networks"], **merged["networks"]}
    return merged
