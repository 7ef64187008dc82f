"""Any STAC catalogue answers as the other archives do."""

import dataclasses
import json
import logging
import os
import re
import shutil
from datetime import UTC, datetime
from urllib.parse import quote

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import shapely

from soilkit import contracts, grids, sources
from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import CatalogueError, UnknownNameError
from soilkit.export import join
from soilkit.export.archives.stac import StacArchive, item_search
from tests import helpers_stac as make

HERE = 36.4, -99.2  # in zone 14
PERIOD = "2020-06-01", "2020-07-01"
NAT = np.datetime64("NaT", "us")


def one_station():
    return make.stations(A__1=HERE)


def ask(archive, source, *, bands=None, grid=None, station="A__1", row=None, **more):
    """The answer to a request for the only scene of a source, or for ``row``."""
    if row is None:
        row = archive.scenes(one_station(), source, *PERIOD).iloc[0]
    time = NAT if pd.isna(row.end) else row.end.to_datetime64()
    bands = bands or tuple(band.name for band in sources.get(source).bands)
    grid = grid or make.grid_at(*HERE)
    asked = ChipRequest(source, row.scene_id, station, time, bands, grid, version="", **more)
    [(_, answer)] = archive.chips([asked])
    return answer


def radar_item(item_id, time, *, geometry=None, assets=(), mode="IW", beams=("VV", "VH"), **more):
    properties = {"sar:instrument_mode": mode, "sar:polarizations": list(beams), **more}
    area = geometry or make.around(*HERE)
    return make.item(item_id, "sentinel-1", geometry=area, time=time, assets=assets, **properties)


def radar(folder, items, **options):
    """An archive whose Sentinel-1 collection has a name of its own."""
    options = {"collections": {"sentinel1": "sentinel-1"}, **options}
    return StacArchive(make.write_catalogue(folder, items), **options)


def image(folder, name, values, *, grid=None, **profile):
    grid = grid or make.grid_at(*HERE)
    return make.raster(folder / f"{name}.tif", values, grid, **profile)


def flat(value, *, size=64, dtype="float32"):
    return np.full((size, size), value, dtype=dtype)


# ---- the antimeridian --------------------------------------------------------------------------

EAST, WEST = [[179.5, -18], [180, -18], [180, -16]], [[-180, -18], [-179.5, -16], [-180, -16]]
ACROSS = {
    "parted": {
        "type": "MultiPolygon",
        "coordinates": [[[*EAST, [179.6, -16], EAST[0]]], [[*WEST, WEST[0]]]],
    },
    "not parted": {
        "type": "Polygon",
        "coordinates": [[[179.5, -18], [-179.4, -18], [-179.5, -16], [179.6, -16], [179.5, -18]]],
    },
    "a box": None,
}


@pytest.mark.parametrize("shape", ACROSS)
def test_a_scene_across_the_antimeridian_is_over_both_sides_and_nowhere_else(tmp_path, shape):
    one = radar_item("x", "2020-06-03T00:10:00Z")
    one |= {"geometry": ACROSS[shape], "bbox": [179.5, -18, -179.4, -16]}
    archive = radar(tmp_path, [one])
    places = {"W": (-17, -179.9), "E": (-17, 179.9), "ON": (-16.5, 179.9999), "NOT": (-17, 20.0)}
    found = archive.scenes(make.stations(**places), "sentinel1", *PERIOD)
    assert sorted(found.station_id) == ["E", "ON", "W"]
    inside = found.set_index("station_id").valid_fraction
    assert inside["E"] == 1 or shape == "a box"


@pytest.mark.parametrize(("longitude", "crs"), [(179.999, "EPSG:32701"), (-179.999, "EPSG:32760")])
def test_a_chip_across_the_antimeridian_is_cut_where_it_lies(tmp_path, longitude, crs):
    place = -17.0, longitude
    grid, file_grid = make.grid_at(*place), make.grid_at(*place, size_px=200, crs=crs)
    slope = np.tile(np.linspace(-20, -5, 200, dtype="float32"), (200, 1))
    assets = {"vv": image(tmp_path, "v", slope, grid=file_grid)}
    one = radar_item("x", "2020-06-03T00:10:00Z", geometry=make.square(179, -18, 180, -16))
    one |= {"bbox": [179, -18, -179, -16], "assets": {"vv": {"href": str(assets["vv"])}}}
    time = np.datetime64("2020-06-03T00:10", "us")
    asked = ChipRequest("sentinel1", "x", "F__1", time, ("VV",), grid)
    [(_, chip)] = radar(tmp_path, [one]).chips([asked])
    x = grids.transformer(grid.crs, crs).transform(*np.meshgrid(grid.x_m, grid.y_m))[0]
    expected = -20 + 15 * ((x - file_grid.left_m) / 10 - 0.5) / 199
    assert np.abs(chip.values[0] - expected).max() < 1e-3


# ---- items become scenes -------------------------------------------------------------------------


def test_unknown_cloud_cover_is_unknown_and_a_percentage_becomes_a_fraction(tmp_path):
    area = make.around(*HERE)
    items = [
        make.item("known", "sentinel2", geometry=area, time="2020-06-03T17:00:00Z",
                  **{"eo:cloud_cover": 25.0}),
        make.item("unknown", "sentinel2", geometry=area, time="2020-06-08T17:00:00Z"),
    ]  # fmt: skip
    table = StacArchive(make.write_catalogue(tmp_path, items)).scenes(
        one_station(), "sentinel2", *PERIOD
    )
    contracts.check(table, contracts.SCENES)
    assert table.cloud_fraction.tolist()[0] == 0.25 and np.isnan(table.cloud_fraction.iloc[1])


@pytest.mark.parametrize("said", ["unknown", -1, 250, "NaN", [3]])
def test_a_cloud_cover_that_is_no_percentage_is_unknown_and_costs_no_other_item(tmp_path, said):
    items = [
        make.item(n, "sentinel-2-l2a", geometry=make.around(*HERE), time=t, **{"eo:cloud_cover": c})
        for n, t, c in (("a", "2020-06-03T17:00:00Z", said), ("b", "2020-06-05T17:00:00Z", 30))
    ]
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    found = archive.scenes(one_station(), "sentinel2", *PERIOD).set_index("scene_id")
    assert np.isnan(found.cloud_fraction["a"]) and found.cloud_fraction["b"] == 0.3


def test_the_clouds_of_a_composite_are_unknown_where_those_of_one_tile_are(tmp_path):
    """Python's own max of 0.1 and NaN depends on their order."""
    items = [
        make.item(n, "gldas", geometry=make.around(*HERE), time="2020-06-03T00:00:00Z", **more)
        for n, more in (("a", {"eo:cloud_cover": 10}), ("b", {}))
    ]
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    [fraction] = archive.scenes(one_station(), "gldas", *PERIOD).cloud_fraction
    assert np.isnan(fraction)


def test_an_item_that_ends_before_it_starts_is_left_out_and_named(tmp_path):
    archive = radar(tmp_path, [radar_item("x", ("2020-06-05T00:00:00Z", "2020-06-03T00:00:00Z"))])
    assert archive.scenes(one_station(), "sentinel1", *PERIOD).empty
    assert "before it starts" in archive.left_out.reason[0]


def test_slices_of_one_pass_are_one_scene_over_the_stations_that_see_both(tmp_path):
    """Two slices 25 s apart meet at 36.4 N; a third, and the other satellite's, stay apart."""
    south, north = make.square(-100, 35, -98, 36.4), make.square(-100, 36.4, -98, 38)
    flight = {"platform": "sentinel-1a", "sat:orbit_state": "ascending"}
    first = "2020-06-03T00:10:00Z", "2020-06-03T00:10:25Z"
    second = "2020-06-03T00:10:25Z", "2020-06-03T00:10:50Z"
    items = [
        radar_item("south", first, geometry=south, **flight),
        radar_item("north", second, geometry=north, **flight),
        radar_item("later", "2020-06-03T00:30:00Z", geometry=south, **flight),
        radar_item("other", "2020-06-03T00:10:20Z", geometry=south, platform="sentinel-1b"),
    ]
    archive = radar(tmp_path, items)
    table = archive.scenes(make.stations(A__1=HERE, B__1=(37.0, -99.2)), "sentinel1", *PERIOD)
    mine = table[table.station_id == "A__1"].set_index("scene_id")

    assert set(mine.index) == {"south+north", "later", "other"}
    merged = mine.loc["south+north"]
    assert (merged.start, merged.end) == (
        pd.Timestamp("2020-06-03T00:10"),
        pd.Timestamp("2020-06-03T00:10:50"),
    )
    assert merged.valid_fraction == 1 and 0.3 < mine.valid_fraction["later"] < 0.7
    assert merged.orbit == "ascending"
    assert table[table.station_id == "B__1"].scene_id.tolist() == ["north"]


def test_a_pass_across_the_end_of_the_period_is_not_cut_in_two(tmp_path):
    """The scene ends with its last slice, after midnight: it belongs to the next period whole."""
    items = [
        radar_item("a", ("2020-06-30T23:59:30Z", "2020-06-30T23:59:55Z")),
        radar_item("b", ("2020-06-30T23:59:55Z", "2020-07-01T00:00:20Z")),
    ]
    archive = radar(tmp_path, items)
    assert archive.scenes(one_station(), "sentinel1", *PERIOD).empty
    later = archive.scenes(one_station(), "sentinel1", "2020-07-01", "2020-08-01")
    assert later.scene_id.tolist() == ["a+b"]


def test_other_radar_modes_and_single_polarisation_are_left_out_and_named(tmp_path, caplog):
    items = [
        radar_item("good", "2020-06-03T00:10:00Z"),
        radar_item("wide", "2020-06-04T00:10:00Z", mode="EW"),
        radar_item("single", "2020-06-05T00:10:00Z", beams=("VV",)),
    ]
    archive = radar(tmp_path, items)
    with caplog.at_level(logging.WARNING):
        table = archive.scenes(one_station(), "sentinel1", *PERIOD)
    assert table.scene_id.tolist() == ["good"]
    assert dict(archive.left_out[["item_id", "reason"]].to_numpy()) == {
        "wide": "instrument mode EW, wanted IW",
        "single": "polarisations VV, wanted VV and VH",
    }
    assert "2 items left out" in caplog.text


@pytest.mark.parametrize(
    "source, time, start, end",
    [
        ("smap", "2020-06-02T00:00:00Z", "2020-06-02", "2020-06-05"),  # dated by its start
        ("smap_l4", "2020-06-02T01:30:00Z", "2020-06-02", "2020-06-02T03:00"),  # by its middle
        ("gldas", "2020-06-02T03:00:00+02:00", "2020-06-02T01:00", "2020-06-02T01:00"),  # instant
        ("smap", ("2020-06-02T00:00:00Z", "2020-06-04T23:59:59Z"),
         "2020-06-02", "2020-06-04T23:59:59"),
    ],
)  # fmt: skip
def test_a_composite_ends_where_its_source_says(tmp_path, source, time, start, end):
    """A lone datetime is what the source is dated by: age never runs from a composite's start."""
    items = [make.item("x", source, geometry=make.around(*HERE), time=time)]
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    row = archive.scenes(one_station(), source, *PERIOD).iloc[0]
    assert (row.start, row.end) == (pd.Timestamp(start), pd.Timestamp(end))


def test_a_bounding_box_tells_nothing_of_a_swath(tmp_path):
    """A radar item whose geometry is its own box, or none, may be empty at the station."""
    box = shapely.geometry.mapping(shapely.box(-100, 35, -98, 38))
    boxed = radar_item("box", "2020-06-03T00:10:00Z", geometry=box)
    nothing = {**radar_item("none", "2020-06-04T00:10:00Z", geometry=box), "geometry": None}
    table = radar(tmp_path, [boxed, nothing]).scenes(one_station(), "sentinel1", *PERIOD)
    assert table.scene_id.tolist() == ["box", "none"]
    assert table.valid_fraction.isna().all()


def test_a_footprint_with_a_hole_does_not_cover_the_hole():
    outer = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]
    hole = [[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]
    far = [[[10, 0], [12, 0], [12, 2], [10, 2], [10, 0]]]
    area = {"type": "MultiPolygon", "coordinates": [[outer, hole], far]}
    points = np.array([[0.5, 0.5], [1.5, 1.5], [3, 3], [11, 1], [6, 1]])
    one = make.item("x", "s", geometry=make.around(1, 1), time="2020-06-03T00:10:00Z")
    one["geometry"] = area
    source = sources.get("sentinel1")
    record = item_search.record_of(one, source)
    seen = [any(item_search.scenes_of([record], source, points=p[None])) for p in points]
    assert seen == [True, False, True, True, False]


def test_ids_with_colons_slashes_and_plus_signs_make_scene_ids_that_can_be_files(tmp_path):
    path = image(tmp_path, "v", flat(-9.0))
    odd = radar_item("urn:s1/2020 06+%", "2020-06-03T00:10:00Z", assets={"vv": path})
    archive = radar(tmp_path, [odd])
    row = archive.scenes(one_station(), "sentinel1", *PERIOD).iloc[0]
    assert not set(row.scene_id) & set(":/+")
    assert isinstance(ask(archive, "sentinel1", bands=("VV",), row=row), Chip)


def test_a_catalogue_written_by_pystac_with_nested_catalogues_is_read(tmp_path):
    """Relative links, items in folders of their own, and items without a collection."""
    path = image(tmp_path, "e", flat(412.0))
    when = datetime(2000, 2, 11, tzinfo=UTC)
    area = make.around(*HERE)
    box = list(shapely.geometry.shape(area).bounds)
    item = pystac.Item("n36w100", geometry=area, bbox=box, datetime=when, properties={})
    item.add_asset("elevation", pystac.Asset(str(path)))
    root, middle = pystac.Catalog("root", "test"), pystac.Catalog("nasadem", "test")
    root.add_child(middle)
    middle.add_item(item)
    root.normalize_hrefs(str(tmp_path / "saved"))
    item.make_asset_hrefs_relative()
    root.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
    shutil.move(tmp_path / "saved", tmp_path / "moved")  # beside the image as before
    archive = StacArchive(tmp_path / "moved")
    assert archive.scenes(one_station(), "dem", *PERIOD).scene_id.tolist() == ["static"]
    assert (ask(archive, "dem").values == 412).all()


# ---- collections and assets ----------------------------------------------------------------------


def optical(folder, assets, **options):
    """An archive with one Sentinel-2 L2A item."""
    properties = options.pop("properties", {})
    items = [
        make.item("x", "sentinel-2-l2a", geometry=make.around(*HERE), time="2020-06-03T17:00:00Z",
                  assets=assets, **properties)
    ]  # fmt: skip
    return StacArchive(make.write_catalogue(folder, items), **options)


@pytest.mark.parametrize(
    "key, told",
    [
        ("B04", {}),
        ("red", {}),
        ("stack", {"eo:bands": [{"name": "B02"}, {"name": "B04", "common_name": "red"}]}),
        ("image", {"bands": [{"name": "blue"}, {"name": "x", "eo:common_name": "red"}]}),
    ],
)
def test_a_band_is_found_by_key_name_or_common_name(tmp_path, key, told):
    values = np.stack([flat(100, dtype="uint16"), flat(900, dtype="uint16")])
    asset = {"href": image(tmp_path, "i", values if told else values[1]), **told}
    archive = optical(tmp_path, {"thumbnail": {"href": "t.png"}, key: asset})
    chip = ask(archive, "sentinel2", bands=("B4",))
    assert (chip.values == 900).all()


def coloured(*names):
    return [{"name": name} for name in names]


RENDERINGS = {
    "by its role": ("a", {"roles": ["overview"], "bands": coloured("B04")}),
    "by its key": ("tci-10m", {"roles": ["data"], "eo:bands": coloured("B04", "B03", "B02")}),
    "by its title": ("a", {"title": "True colour image", "bands": coloured("B04")}),
    "by its media type": ("a", {"type": "image/png", "bands": coloured("B04")}),
    "by its data type": ("a", {"bands": [{"name": "B04", "data_type": "uint8"}]}),
    "by its pixels": ("a", {"gsd": 320, "bands": coloured("B04")}),
    "by a usual key": ("B04", {"roles": ["thumbnail"]}),
    "by its file alone": ("a", {"bands": coloured("B04", "B03", "B02")}),
}


@pytest.mark.parametrize("how", RENDERINGS)
def test_a_rendering_is_never_taken_for_a_band(tmp_path, how):
    """It stands first; alone it fails by name. Reflectance 0.0207 is no grey value of 93."""
    key, told = RENDERINGS[how]
    grey = image(tmp_path, "grey", np.stack([flat(v, dtype="uint8") for v in (93, 92, 91)]))
    told = {"href": grey, **told}
    data = {"href": image(tmp_path, "data", flat(207, dtype="uint16")), "bands": coloured("B04")}
    both, alone = (tmp_path / name for name in ("both", "alone"))
    both = optical(both, {key: told, "sr_4": data})
    assert (ask(both, "sentinel2", bands=("B4",)).values == 207).all()
    failure = ask(optical(alone, {key: told}), "sentinel2", bands=("B4",))
    assert failure.permanent and "rendering" in failure.reason and key in failure.reason


@pytest.mark.parametrize(
    "source, platform, item_id, kept",
    [
        ("landsat8", "landsat-8", "x", True),
        ("landsat8", "LANDSAT_8", "x", True),
        ("landsat8", "LC08", "x", True),
        ("landsat8", "LC09", "LC08_L2SP_028035_20200603", False),
        ("landsat8", "", "LC08_L2SP_028035_20200603", True),
        ("landsat8", "landsat-9", "LC08_L2SP_028035_20200603", False),
        ("landsat8", "", "LE07_L2SP_028035_20200603", False),
        ("landsat8", "", "x", False),
        ("landsat9", "", "LC09_L2SP_028035_20200603", True),
        ("landsat9", "landsat-8", "x", False),
    ],
)
def test_landsat_8_and_9_are_told_apart_in_their_common_collection(
    tmp_path, source, platform, item_id, kept
):
    """Blue is band 2 of OLI, and band 1 of the sensors before it."""
    told = {"raster:bands": [{"scale": 2.75e-5, "offset": -0.2}]}
    assets = {"blue": {"href": image(tmp_path, "b", flat(8111, dtype="uint16")), **told}}
    words = {"platform": platform} if platform else {}
    one = make.item(item_id, "landsat-c2-l2", geometry=make.around(*HERE),
                    time="2020-06-03T17:00:00Z", assets=assets, **words)  # fmt: skip
    archive = StacArchive(make.write_catalogue(tmp_path, [one]))
    table = archive.scenes(one_station(), source, *PERIOD)
    assert table.scene_id.tolist() == [item_id] * kept
    assert len(archive.left_out) == (not kept)
    if kept:
        np.testing.assert_allclose(ask(archive, source, bands=("SR_B2",)).values, 8111, rtol=1e-6)


@pytest.mark.parametrize("name", ["a b.tif", "a#1.tif", "50%.tif", "a?x.tif", "%41.tif"])
def test_files_are_found_whatever_their_names_hold(tmp_path, name):
    """As they are, escaped, or as an address of a file."""
    path = image(tmp_path, "v", flat(-9.0)).rename(tmp_path / name)
    for n, href in enumerate((str(path), f"../{quote(name)}", path.as_uri())):
        items = [radar_item("x", "2020-06-03T00:10:00Z", assets={"vv": href})]
        folder = tmp_path / f"c{n}"
        (folder / "sentinel-1").mkdir(parents=True)
        if href.startswith(".."):
            items[0]["assets"]["vv"]["href"] = f"../{href}"
        assert (ask(radar(folder, items), "sentinel1", bands=("VV",)).values == -9).all()


def test_collections_and_assets_can_be_named_by_hand(tmp_path):
    values = np.stack([flat(100, dtype="uint16"), flat(900, dtype="uint16")])
    items = [
        make.item("x", "mine", geometry=make.around(*HERE), time="2020-06-03T17:00:00Z",
                  assets={"stack": image(tmp_path, "i", values)})
    ]  # fmt: skip
    path = make.write_catalogue(tmp_path, items)
    named = {"collections": {"sentinel2": "mine"}, "assets": {"sentinel2": {"B4": ("stack", 2)}}}
    assert (ask(StacArchive(path, **named), "sentinel2", bands=("B4",)).values == 900).all()
    with pytest.raises(UnknownNameError, match="no collection 'other' for sentinel2; it has mine"):
        StacArchive(path, collections={"sentinel2": "other"})


def test_level_2a_is_named_as_not_the_papers(tmp_path):
    archive = optical(tmp_path, {})
    note = archive.served.set_index("source").note["sentinel2"]
    assert "Level-2A" in note and "Level-1C" in note


def test_defaults_of_a_collections_assets_hold_for_its_items(tmp_path):
    items = [
        make.item("x", "sentinel-2-l2a", geometry=make.around(*HERE), time="2020-06-03T17:00:00Z",
                  assets={"b": image(tmp_path, "i", flat(900, dtype="uint16"))})
    ]  # fmt: skip
    told = {"sentinel-2-l2a": {"item_assets": {"b": {"bands": [{"name": "B04"}]}}}}
    archive = StacArchive(make.write_catalogue(tmp_path, items, collections=told))
    assert (ask(archive, "sentinel2", bands=("B4",)).values == 900).all()


# ---- values --------------------------------------------------------------------------------------


IDENTITY = {"raster:bands": [{"data_type": "uint16", "scale": 1.0, "offset": 0.0}]}


@pytest.mark.parametrize(
    "told, properties, wanted",
    [
        ({}, {}, 3000),  # nothing said: stored as it is
        ({"raster:bands": [{"scale": 1e-4, "offset": 0}]}, {}, 3000),
        ({"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}, {}, 2000),
        ({"raster:scale": 2e-4, "raster:offset": 0.0}, {}, 6000),
        ({}, {"s2:processing_baseline": "04.00"}, 2000),  # raised by 1,000, and nobody says so
        ({}, {"s2:processing_baseline": "03.01"}, 3000),
        ({"raster:bands": [{"scale": 1e-4, "offset": -0.1}]},
         {"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.00"}, 3000),
        # an identity and a scale alone say nothing of the offset; one of numbers is understood
        (IDENTITY, {}, 3000),
        (IDENTITY, {"s2:processing_baseline": "05.10"}, 2000),
        ({"raster:bands": [{"scale": 1e-4}]}, {"s2:processing_baseline": "05.10"}, 2000),
        ({"raster:bands": [{"scale": 1e-4, "offset": -1000}]}, {}, 2000),
        ({"raster:bands": [{"scale": 1, "offset": -1000}]}, {}, 2000),
        ({}, {"s2:processing_baseline": "N0400"}, 2000),
        ({}, {"s2:processing_baseline": 5.1}, 2000),
        ({}, {"sentinel:processing_baseline": "0509", "sentinel:boa_offset_applied": False}, 2000),
        ({}, {"sentinel:processing_baseline": "0509", "sentinel:boa_offset_applied": "true"}, 3000),
        ({}, {"sentinel2:processingBaseline": "04.01"}, 2000),
        ({}, {"processing:version": "v05.11"}, 2000),
        ({}, {"proc:baseline": "05.11"}, 2000),
        ({}, {"s2:product_uri": "S2A_MSIL2A_20200603T170901_N0500_R112_T14SNH_2023.SAFE"}, 2000),
        ({}, {"s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_ESRI_20200603T_S2020_N02.14"}, 3000),
        ({}, {"s2:processing_baseline": "99.99"}, 3000),  # of users' own products: unknown
        ({}, {"s2:processing_baseline": 301}, 3000),
        ({}, {"s2:processing_baseline": 510}, 2000),
        # the default of a collection, stated of an item that was never raised
        ({"raster:bands": [{"scale": 1e-4, "offset": -0.1}]},
         {"s2:processing_baseline": "02.14"}, 3000),
    ],
)  # fmt: skip
def test_optical_numbers_become_those_of_the_harmonised_collection(
    tmp_path, told, properties, wanted
):
    asset = {"href": image(tmp_path, "i", flat(3000, dtype="uint16")), **told}
    chip = ask(optical(tmp_path, {"B04": asset}, properties=properties), "sentinel2", bands=("B4",))
    np.testing.assert_allclose(chip.values, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "told, said",
    [
        ({}, "states no processing baseline"),
        ({"s2:processing_baseline": "02.14"}, "states no processing baseline of its time"),
        ({"s2:processing_baseline": "05.10", "stated": 0}, "offset of 0 beside .* baseline 05.1"),
        ({"s2:processing_baseline": "05.10"}, ""),
        ({"earthsearch:boa_offset_applied": True}, ""),
    ],
)
def test_an_offset_that_nobody_knows_is_noted_once(tmp_path, caplog, told, said):
    """Since 2022-01-25 numbers are raised; taken as they are, they may be 0.1 too bright."""
    asset = {"href": image(tmp_path, "i", flat(3000, dtype="uint16"))}
    if "stated" in told:
        asset["raster:bands"] = [{"scale": 1e-4, "offset": told.pop("stated")}]
    archive = optical(tmp_path, {"B04": asset}, properties={"datetime": "2022-06-03T17:00Z"} | told)
    row = archive.scenes(one_station(), "sentinel2", "2022-06-01", "2022-07-01").iloc[0]
    for _ in range(2):
        ask(archive, "sentinel2", bands=("B4",), row=row)
    notes = [one.message for one in caplog.records if "may be raised" in one.message]
    assert len(notes) == bool(said) and all(re.search(said, one) for one in notes)
    assert ("may be raised" in archive.served.set_index("source").note["sentinel2"]) == bool(said)


@pytest.mark.parametrize(
    "source, band, value, dtype",
    [
        ("sentinel2", "B4", 0.31, "float32"),  # a reflectance, and no scale
        ("sentinel1", "VV", 0.05, "float32"),  # linear power taken for decibels
        ("sentinel1", "VV", 180, "uint8"),
        ("modis_lai", "Lai", 2.5, "float32"),  # physical, where LAI x 10 is stored
        ("modis_et", "ET", 25.25, "float32"),
        ("soilgrids", "sand", 35.25, "float32"),
        ("dem", "elevation", -32768, "int16"),  # nothing but an unmarked fill value
    ],
)
def test_numbers_that_cannot_be_the_sources_fail_by_name(tmp_path, source, band, value, dtype):
    values = flat(value, dtype=dtype)
    values[::2] += dtype == "float32"  # 0.05 and 1.05
    items = [make.item("x", source, geometry=make.around(*HERE), time="2020-06-03T17:00:00Z",
                       assets={band: image(tmp_path, "i", values)})]  # fmt: skip
    failure = ask(StacArchive(make.write_catalogue(tmp_path, items)), source, bands=(band,))
    assert failure.permanent and f"asset {band} of item x" in failure.reason


BANDS = [(source.name, band.name) for source in sources.CATALOGUE for band in source.bands]


@pytest.mark.parametrize("name, band_name", BANDS)
def test_what_lies_outside_a_bands_range_is_missing_before_it_is_averaged(
    tmp_path, name, band_name
):
    """A value in the range on every pixel but some below, above, and of usual fills."""
    source = sources.get(name)
    band = source.band(band_name)
    low, high = band.stored_range
    good = np.float32(round(low + 0.3 * (high - low)) if high - low > 9 else 0.7 * low + 0.3 * high)
    span = high - low
    fills = [low - 0.5 * span - 1, high + 0.5 * span + 1, -9999.0, -32768.0, 65535.0 * 2, np.nan]
    values = np.full((64, 64), good, "float32")
    for n, fill in enumerate(fills):
        if not low <= fill <= high:
            values[4 + 9 * n : 7 + 9 * n, ::7] = fill
    platform = {"platform": source.stac.platform} if source.stac.platform else {}
    if source.resolution == "coarse":
        place, grid = HERE, grids.Grid("EPSG:4326", -99.52, 36.72, 0.01, 64, 64)
    else:
        place, grid = HERE, make.grid_at(*HERE)
    paths = {b.name: image(tmp_path, "i", values, grid=grid) for b in source.bands}
    items = [make.item("x", name, geometry=make.around(*place), assets=paths,
                       time="2020-06-03T00:00:00Z", **platform)]  # fmt: skip
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    row = archive.scenes(one_station(), name, "2020-01-01", "2023-01-01").iloc[0]
    shifted = make.grid_at(*HERE, size_px=60 if source.resolution != "coarse" else 4)
    shifted = dataclasses.replace(shifted, left_m=shifted.left_m + 3, top_m=shifted.top_m - 3)
    found = ask(archive, name, bands=(band_name,), grid=shifted, row=row).values
    assert np.isfinite(found).mean() > 0.3
    np.testing.assert_allclose(found[np.isfinite(found)], good, rtol=2e-5)


@pytest.mark.parametrize(
    "source, band, good, other",
    [("sentinel2", "B4", 0.25, 65535), ("modis_lai", "Lai", 2.5, 250)],
)
def test_physical_numbers_beside_codes_or_under_a_scale_fail_by_name(
    tmp_path, source, band, good, other
):
    values = flat(good)
    values[::2] = other
    items = []
    for n, (numbers, told) in enumerate([(values, {}), (flat(0.25), {"raster:scale": 1e-4})]):
        asset = {"href": image(tmp_path, f"i{n}", numbers), **told}
        name = source if n == 0 else "sentinel2"
        items.append(make.item(f"x{n}", name, geometry=make.around(*HERE), assets={
            band if n == 0 else "B4": asset}, time="2020-06-03T17:00:00Z"))  # fmt: skip
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    for name, asked in ((source, band), ("sentinel2", "B4")):
        rows = archive.scenes(one_station(), name, *PERIOD)
        for _, row in rows.iterrows():
            assert "look physical" in ask(archive, name, bands=(asked,), row=row).reason


def test_zeros_beside_decibels_are_a_border(tmp_path):
    values = flat(-12.0)
    values[:32] = 0
    items = [radar_item("x", "2020-06-03T00:10:00Z", assets={"VV": image(tmp_path, "v", values)})]
    items[0]["properties"]["sar:polarizations"] = "VV+VH"  # a text, as some write it
    chip = ask(radar(tmp_path, items), "sentinel1", bands=("VV",)).values
    assert np.isnan(chip).any() and np.allclose(chip[np.isfinite(chip)], -12)


def test_bands_that_are_counted_have_no_names(tmp_path):
    """rio-stac writes b1, b2, ...: the second of a stack from B2 on is B3, not B2."""
    stack = image(tmp_path, "s", np.stack([flat(n, dtype="uint16") for n in (200, 300, 400)]))
    asset = {"href": stack, "eo:bands": [{"name": f"b{n}"} for n in (1, 2, 3)]}
    archive = optical(tmp_path, {"asset": asset})
    assert "no asset for sentinel2 B2" in ask(archive, "sentinel2", bands=("B2",)).reason
    titled = optical(tmp_path, {"B02": {"href": image(tmp_path, "b", flat(200, dtype="uint16")),
                                        "title": "JPEG 2000 of band 2"}})  # fmt: skip
    assert (ask(titled, "sentinel2", bands=("B2",)).values == 200).all()


def test_class_codes_are_no_leaf_area_and_dark_ground_is_zero(tmp_path):
    """MCD15A3H's 249 to 254 are classes; numbers of 1 to 1,000 lie below zero if lowered."""
    leaves = flat(31, dtype="uint8")
    for n, code in enumerate(range(249, 255)):
        leaves[8 * n : 8 * n + 3] = code
    items = [make.item("x", "modis-15A3H-061", geometry=make.around(*HERE), assets={
        "Lai_500m": {"href": image(tmp_path, "l", leaves), "raster:bands": [{"scale": 0.1}]}},
        time="2020-06-03T00:00:00Z")]  # fmt: skip
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    shifted = grids.Grid("EPSG:32614", make.grid_at(*HERE).left_m + 3,
                         make.grid_at(*HERE).top_m - 3, 10.0, 60, 60)  # fmt: skip
    found = ask(archive, "modis_lai", grid=shifted).values
    np.testing.assert_allclose(found[np.isfinite(found)], 31, rtol=1e-6)
    dark = flat(960, dtype="uint16")
    dark[:32] = 0  # no data
    asset = {"B04": image(tmp_path, "d", dark)}
    dark = optical(tmp_path / "s2", asset, properties={"s2:processing_baseline": "04.00"})
    values = ask(dark, "sentinel2", bands=("B4",), grid=make.grid_at(*HERE)).values
    assert np.isnan(values[0, :32]).all() and (values[0, 32:] == 0).all()


def test_a_files_own_scale_is_applied_where_the_item_says_nothing(tmp_path):
    """SoilGrids as 0.1 %: 31.5 % of sand is 315 g/kg, which is what is stored."""
    path = image(tmp_path, "s", flat(315, dtype="int16"), scales=(0.1,), offsets=(0.0,))
    plain = image(tmp_path, "p", flat(315, dtype="int16"))
    items = [make.item("x", "soilgrids", geometry=make.around(*HERE), time="2020-01-01T00:00:00Z",
                       assets={"sand": path, "clay": plain})]  # fmt: skip
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    chip = ask(archive, "soilgrids", bands=("sand", "clay"))
    np.testing.assert_allclose(chip.values, 315, rtol=1e-6)


def checkerboard(low, high):
    rows, cols = np.indices((64, 64))
    return np.where((rows + cols) % 2, low, high).astype("float32")


def test_decibels_are_averaged_in_linear_power(tmp_path):
    """Half the ground at 0 dB and half at -20 dB is -2.97 dB, far from the mean of -10."""
    path = image(tmp_path, "v", checkerboard(-20, -1e-3))
    archive = radar(tmp_path, [radar_item("x", "2020-06-03T00:10:00Z", assets={"vv": path})])
    coarse = make.grid_at(*HERE, size_px=4, pixel_size_m=160)
    chip = ask(archive, "sentinel1", bands=("VV",), grid=coarse)
    np.testing.assert_allclose(chip.values, 10 * np.log10(0.505), atol=0.02)


def test_linear_power_is_converted_and_borders_filled_with_zero_are_no_data(tmp_path):
    """Zeros would otherwise darken their neighbours on a grid a third of a pixel off."""
    power = flat(0.1)
    power[:, :8] = 0
    items = [radar_item("x", "2020-06-03T00:10:00Z", assets={"vv": image(tmp_path, "v", power)})]
    archive = radar(tmp_path, items, units={"sentinel1": "power"})
    grid = make.grid_at(*HERE)
    shifted = grids.Grid(grid.crs, grid.left_m + 3, grid.top_m - 3, 10.0, 60, 60)
    values = ask(archive, "sentinel1", bands=("VV",), grid=shifted).values[0]
    assert np.isnan(values[:, :7]).all() and np.isfinite(values[:, 9:]).all()
    np.testing.assert_allclose(values[np.isfinite(values)], -10, atol=1e-5)


def test_an_angle_is_no_backscatter(tmp_path):
    path = image(tmp_path, "a", checkerboard(30, 40))
    archive = radar(tmp_path, [radar_item("x", "2020-06-03T00:10:00Z", assets={"angle": path})])
    coarse = make.grid_at(*HERE, size_px=4, pixel_size_m=160)
    chip = ask(archive, "sentinel1", bands=("angle",), grid=coarse)
    np.testing.assert_allclose(chip.values, 35, atol=0.05)


def test_classes_are_taken_from_the_nearest_pixel_and_never_mixed(tmp_path):
    turned = make.grid_at(*HERE, crs="EPSG:32615")
    path = image(tmp_path, "c", checkerboard(20, 40).astype("uint8"), grid=turned)
    items = [make.item("x", "land_cover", geometry=make.around(*HERE), time="2020-01-01T00:00:00Z",
                       assets={"discrete_classification": path})]  # fmt: skip
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    values = ask(archive, "land_cover", grid=make.grid_at(*HERE, size_px=16)).values
    assert set(np.unique(values)) == {20.0, 40.0}


def test_no_data_is_left_out_of_every_mean(tmp_path):
    """Beside a hole of -9999 that only the item knows of, all pixels keep their 7."""
    values = flat(7.0)
    values[20:30, 20:30] = -9999
    grid = make.grid_at(*HERE)
    shifted = grids.Grid(grid.crs, grid.left_m + 3, grid.top_m - 3, 10.0, 60, 60)
    told = {"href": image(tmp_path, "d", values, grid=grid), "raster:bands": [{"nodata": -9999}]}
    items = [make.item("x", "nasadem", geometry=make.around(*HERE), time="2000-02-11T00:00:00Z",
                       assets={"elevation": told})]  # fmt: skip
    found = ask(StacArchive(make.write_catalogue(tmp_path, items)), "dem", grid=shifted).values[0]
    assert np.isnan(found).sum() >= 80
    np.testing.assert_array_equal(found[np.isfinite(found)], 7.0)


@pytest.mark.parametrize("crs", ["EPSG:32614", "EPSG:32615", "EPSG:32613"])
def test_an_image_of_any_zone_lands_where_it_belongs(tmp_path, crs):
    """Pixels that hold their own longitude come back as the chip's, to a tenth of a pixel."""
    place = 36.4, -96.02  # beside the border of zones 14 and 15
    grid = make.grid_at(*place, size_px=400, pixel_size_m=10.0, crs=crs)
    longitude, _ = grids.lonlat(grid)
    path = image(tmp_path, "lon", longitude, grid=grid)  # float64
    items = [make.item("x", "dem", geometry=make.around(*place), time="2000-02-11T00:00:00Z",
                       assets={"elevation": path})]  # fmt: skip
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    target = grids.chip_grid(*place, size_px=256, pixel_size_m=10.0)
    row = archive.scenes(make.stations(A__1=place), "dem", *PERIOD).iloc[0]
    values = ask(archive, "dem", grid=target, row=row).values[0]
    pixel_degrees = 10 / 111_000 / np.cos(np.deg2rad(36.4))
    # float32 tells longitudes of 96 degrees apart by 8e-6
    np.testing.assert_allclose(values, grids.lonlat(target)[0], atol=0.1 * pixel_degrees + 8e-6)


def test_tiles_of_one_scene_are_joined_without_a_seam(tmp_path):
    """Two tiles that overlap by ten pixels, each knowing its own half."""
    grid = make.grid_at(*HERE)
    slope = np.arange(64, dtype="float32")[None].repeat(64, axis=0)
    west, east = slope.copy(), slope.copy()
    west[:, 37:], east[:, :27] = np.nan, np.nan
    items = [
        make.item(name, "nasadem", geometry=make.around(*HERE), time="2000-02-11T00:00:00Z",
                  assets={"elevation": image(tmp_path, name, values, grid=grid)})
        for name, values in (("west", west), ("east", east))
    ]  # fmt: skip
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    assert len(archive.scenes(one_station(), "dem", *PERIOD)) == 1
    np.testing.assert_array_equal(ask(archive, "dem", grid=grid).values[0], slope)


def test_a_coarse_series_holds_the_pixel_of_each_station(tmp_path):
    """GLDAS pixels carry their number; a station takes the one that it stands in."""
    grid = grids.Grid("EPSG:4326", -99.5, 37.0, 0.25, 4, 4)
    path = image(tmp_path, "g", np.arange(16, dtype="float32").reshape(4, 4), grid=grid)
    area = make.square(-99.5, 36, -98.5, 37)
    assets = {"SoilMoi0_10cm_inst": path}
    items = [
        make.item("a", "gldas", geometry=area, time="2020-06-03T00:00:00Z", assets=assets),
        make.item("gone", "gldas", geometry=area, time="2020-06-03T03:00:00Z",
                  assets={"SoilMoi0_10cm_inst": tmp_path / "missing.tif"}),
        make.item("bare", "gldas", geometry=area, time="2020-06-03T06:00:00Z"),
    ]  # fmt: skip
    archive = StacArchive(make.write_catalogue(tmp_path, items))
    places = make.stations(A__1=(36.9, -99.4), A__2=(36.1, -98.6), A__3=(36.49, -99.01))
    table = archive.series(places, "gldas", *PERIOD)
    assert table.SoilMoi0_10cm_inst.tolist() == [0.0, 15.0, 9.0]
    assert set(table.scene_id) == {"a"}
    reasons = archive.left_out.set_index("item_id").reason
    assert "missing.tif" in reasons["gone"]
    assert "item bare has no asset for gldas SoilMoi0_10cm_inst" in reasons["bare"]


# ---- bad input -----------------------------------------------------------------------------------


def test_a_folder_without_a_catalogue_is_refused(tmp_path):
    with pytest.raises(CatalogueError, match="no STAC catalogue at .*wanted a catalog.json"):
        StacArchive(tmp_path)


BROKEN = {
    "half": '{"type": "Feature", ',
    "no text": b"\xff\xfe{",
    "deep": "[" * 100_000,
    "another kind": "[1, 2]",
    "no id": '{"type": "Feature", "stac_version": "1.0.0", "properties": {}, "links": []}',
    "a box of words": {"bbox": ["a", "b", "c", "d"]},
    "properties of numbers": {"properties": 7},
    "another year": {"properties": {"datetime": "9999-12-31T00:00:00Z"}},
    "a day without a month": {"properties": {"datetime": "2020"}},
    "an American day": {"properties": {"datetime": "01/02/2020"}},
    "words": {"properties": {"datetime": "yesterday"}},
    "no properties": {"properties": None},
    "beams": {"properties": {"datetime": "2020-06-03T00:10:00Z", "sar:polarizations": 5}},
    "gone": None,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_item_is_left_out_by_name_and_costs_no_other(tmp_path, kind):
    """Its words, its time or the file itself; a pipe or a link to nowhere are no files."""
    items = [radar_item(name, "2020-06-03T00:10:00Z") for name in ("bad", "good")]
    path, file = make.write_catalogue(tmp_path, items), tmp_path / "sentinel-1" / "bad.json"
    words = BROKEN[kind]
    if isinstance(words, dict):
        file.write_text(json.dumps(items[0] | words))
    else:
        file.unlink()
    if isinstance(words, str | bytes):
        file.write_bytes(words if isinstance(words, bytes) else words.encode())
    archive = StacArchive(path, collections={"sentinel1": "sentinel-1"})
    assert archive.scenes(one_station(), "sentinel1", *PERIOD).scene_id.tolist() == ["good"]
    [(name, reason)] = archive.left_out[["item_id", "reason"]].to_numpy()
    assert "bad" in name and reason


@pytest.mark.parametrize("make_file", [os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_pipes_and_links_to_nowhere_are_refused(tmp_path, make_file):
    image = tmp_path / "v.tif"
    make_file(image)
    items = [radar_item("good", "2020-06-03T00:10:00Z", assets={"vv": image})]
    path, bad = make.write_catalogue(tmp_path, items), tmp_path / "sentinel-1" / "bad.json"
    make_file(bad)
    folder = tmp_path / "sentinel-1" / "collection.json"
    words = json.loads(folder.read_text())
    links = [*words["links"], {"rel": "item", "href": "bad.json"}]
    folder.write_text(json.dumps(words | {"links": links}))
    archive = StacArchive(path, collections={"sentinel1": "sentinel-1"})
    assert archive.left_out.item_id.tolist() == [str(bad)]
    assert "v.tif cannot be read" in ask(archive, "sentinel1", bands=("VV",)).reason


def test_a_broken_collection_or_catalogue_is_named(tmp_path):
    path = make.write_catalogue(tmp_path, [radar_item("x", "2020-06-03T00:10:00Z")])
    (tmp_path / "sentinel-1" / "collection.json").write_text("{")
    with pytest.raises(CatalogueError, match="collection.json cannot be read as STAC .*JSON"):
        StacArchive(path)
    path.write_text('{"hello": "world"}')
    with pytest.raises(CatalogueError, match="catalog.json cannot be read as STAC"):
        StacArchive(path)


def test_a_catalogue_on_disk_leaves_the_network_alone_unless_it_is_asked(tmp_path):
    """Its links lead to a server that counts who comes."""
    away = make.Api([radar_item("x", "2020-06-03T00:10:00Z")])
    away.get = lambda path: away.asked.append(path) or away.items[0]
    path = make.write_catalogue(tmp_path, [radar_item("here", "2020-06-04T00:10:00Z")])
    words = json.loads(path.read_text())
    with make.serving(away):
        links = [{"rel": "item", "href": f"{away.url}/x.json"}, *words["links"]]
        path.write_text(json.dumps(words | {"links": links}))
        options = {"collections": {"sentinel1": "sentinel-1"}}
        shut, opened = (StacArchive(path, network=n, **options) for n in (False, True))
    found = [one.scenes(one_station(), "sentinel1", *PERIOD).scene_id for one in (shut, opened)]
    assert [names.tolist() for names in found] == [["here"], ["x", "here"]]
    assert away.asked == ["/x.json"] and "network=True" in shut.left_out.reason[0]


@pytest.mark.parametrize("linking", ["catalog.json", "sentinel-1/collection.json"])
def test_links_that_go_round_and_items_linked_twice_count_once(tmp_path, linking):
    path = make.write_catalogue(tmp_path, [radar_item("x", "2020-06-03T00:10:00Z")])
    words = json.loads((tmp_path / linking).read_text())
    back = {"rel": "child", "href": str(path)}
    (tmp_path / linking).write_text(json.dumps({**words, "links": [*words["links"] * 2, back]}))
    archive = StacArchive(path, collections={"sentinel1": "sentinel-1"})
    assert len(archive.scenes(one_station(), "sentinel1", *PERIOD)) == 1


def test_a_link_that_is_no_name_of_a_file_is_left_out(tmp_path):
    path = make.write_catalogue(tmp_path, [radar_item("x", "2020-06-03T00:10:00Z")])
    folder = tmp_path / "sentinel-1" / "collection.json"
    words = json.loads(folder.read_text())
    links = [*words["links"], {"rel": "item", "href": "\0.json"}]
    folder.write_text(json.dumps(words | {"links": links}))
    archive = StacArchive(path, collections={"sentinel1": "sentinel-1"})
    assert len(archive.scenes(one_station(), "sentinel1", *PERIOD)) == 1
    assert "null byte" in archive.left_out.reason[0]


def test_an_unknown_source_is_refused_with_the_collections_that_there_are(tmp_path):
    archive = radar(tmp_path, [radar_item("x", "2020-06-03T00:10:00Z")])
    with pytest.raises(UnknownNameError, match="does not serve 'smap'.*collections are sentinel-1"):
        archive.scenes(one_station(), "smap", *PERIOD)
    with pytest.raises(UnknownNameError, match="no series of 'sentinel1'"):
        archive.series(one_station(), "sentinel1", *PERIOD)


def test_an_item_without_an_asset_fails_by_name_and_the_others_come(tmp_path):
    good = image(tmp_path, "v", flat(-9.0))
    items = [
        radar_item("good", "2020-06-03T00:10:00Z", assets={"vv": good}),
        radar_item("bare", "2020-06-04T00:10:00Z", assets={"vh": good}),
    ]
    archive = radar(tmp_path, items)
    table = archive.scenes(one_station(), "sentinel1", *PERIOD)
    answers = {
        r.scene_id: ask(archive, "sentinel1", bands=("VV",), row=r) for r in table.itertuples()
    }
    assert isinstance(answers["good"], Chip)
    assert answers["bare"] == Failure(
        "item bare has no asset for sentinel1 VV; it has vh", permanent=True
    )


def test_a_scene_of_another_time_does_not_exist(tmp_path):
    """An id that was kept while its item was dated anew must not pass for the old scene."""
    path = image(tmp_path, "v", flat(-9.0))
    archive = radar(tmp_path, [radar_item("x", "2020-06-03T00:10:00Z", assets={"vv": path})])
    row = archive.scenes(one_station(), "sentinel1", *PERIOD).iloc[0]
    moved = row.replace(row.end, row.end + pd.Timedelta("2s"))
    assert "no scene x over A__1" in ask(archive, "sentinel1", bands=("VV",), row=moved).reason


def spoiled(folder, path):
    items = [radar_item("x", "2020-06-03T00:10:00Z", assets={"vv": path})]
    return ask(radar(folder, items), "sentinel1", bands=("VV",))


def test_a_missing_file_is_asked_for_again_another_time(tmp_path):
    failure = spoiled(tmp_path, tmp_path / "gone.tif")
    assert "gone.tif cannot be read" in failure.reason and not failure.permanent


def test_an_image_without_a_crs_is_refused_even_with_control_points(tmp_path):
    """Radar in radar geometry has only ground control points: nothing to warp, nothing in dB."""
    with rasterio.open(tmp_path / "raw.tif", "w", driver="GTiff", count=1, height=64, width=64,
                       dtype="float32") as file:  # fmt: skip
        file.write(flat(200.0), 1)
    assert "has no CRS" in spoiled(tmp_path / "a", tmp_path / "raw.tif").reason
    points = [rasterio.control.GroundControlPoint(r, c, HERE[1] + c / 1e4, HERE[0] - r / 1e4)
              for r, c in ((0, 0), (0, 63), (63, 0), (63, 63))]  # fmt: skip
    with rasterio.open(tmp_path / "raw.tif", "r+") as file:
        file.gcps = points, rasterio.crs.CRS.from_epsg(4326)
    assert "only ground control points" in spoiled(tmp_path / "b", tmp_path / "raw.tif").reason


def test_an_image_in_a_local_crs_is_refused(tmp_path):
    local = 'LOCAL_CS["field",UNIT["metre",1]]'
    failure = spoiled(tmp_path, image(tmp_path, "v", flat(-9.0), crs=local))
    assert "its CRS is local" in failure.reason


@pytest.mark.parametrize("told", [{"nodata": "none"}, {"raster:bands": [{"scale": "x"}]}])
def test_words_for_numbers_fail_one_chip_by_name(tmp_path, told):
    asset = {"href": image(tmp_path, "v", flat(-9.0)), **told}
    failure = spoiled(tmp_path, asset)
    assert failure.permanent and "states no number" in failure.reason


def test_chips_are_asked_for_again_where_their_addresses_could_not_be_signed(tmp_path):
    def sign(href):
        raise OSError("the token service is down")

    items = [radar_item("x", "2020-06-03T00:10:00Z", assets={"vv": image(tmp_path, "v", flat(-9))})]
    failure = ask(radar(tmp_path, items, sign=sign), "sentinel1", bands=("VV",))
    assert not failure.permanent and "token service is down" in failure.reason


def test_an_image_without_one_valid_pixel_is_a_counted_failure(tmp_path):
    failure = spoiled(tmp_path, image(tmp_path, "v", flat(np.nan)))
    assert failure == Failure("x holds nothing over A__1.", permanent=True)
    elsewhere = image(tmp_path, "w", flat(-9.0), grid=make.grid_at(36.0, -99.0))
    assert spoiled(tmp_path / "c", elsewhere) == failure


def test_a_source_without_scenes_in_its_bound_drops_every_reading_and_counts_them(tmp_path):
    archive = radar(tmp_path, [radar_item("x", "2020-06-03T00:10:00Z")])
    table = archive.scenes(one_station(), "sentinel1", "2021-01-01", "2021-02-01")
    contracts.check(table, contracts.SCENES)
    assert table.empty
    scenes = archive.scenes(one_station(), "sentinel1", *PERIOD)
    readings = pd.DataFrame(
        {
            "sensor_id": "A__1__x__0.05__0.05",
            "time": pd.date_range("2020-06-05", periods=48, freq="h").as_unit("us"),
            "soil_moisture_m3_m3": 0.2,
            "flag": "G",
        }
    )
    bounds = {"sentinel1": pd.Timedelta("1h")}
    joined = join.anchored_join(readings, scenes, one_station(), bounds=bounds)
    assert joined.samples.empty and joined.drops["count"].sum() == 48


def test_another_time_or_date_of_an_item_makes_another_version(tmp_path):
    def version(name, time, **options):
        return radar(tmp_path / name, [radar_item("x", time)], **options).version

    first = version("a", "2020-06-03T00:10:00Z")
    assert first.startswith("stac-test-")
    assert version("b", "2020-06-03T00:10:00Z") == first
    assert version("c", "2020-06-03T00:10:01Z") != first
    assert version("d", "2020-06-03T00:10:00Z", units={"sentinel1": "power"}) != first


def test_chips_come_as_they_complete_and_not_as_they_were_asked(tmp_path, monkeypatch):
    """The first file waits until the second chip was handed out."""
    from threading import Event

    path, second_came = image(tmp_path, "v", flat(-9.0)), Event()
    items = [radar_item(n, f"2020-06-0{k}T00:10:00Z", assets={"vv": path})
             for k, n in ((3, "slow"), (4, "fast"))]  # fmt: skip
    archive = radar(tmp_path, items)
    cut = StacArchive._chip

    def waits(self, request):
        assert request.scene_id == "fast" or second_came.wait(20)
        return cut(self, request)

    monkeypatch.setattr(StacArchive, "_chip", waits)
    asked = [
        ChipRequest("sentinel1", r.scene_id, "A__1", r.end.to_datetime64(), ("VV",),
                    make.grid_at(*HERE))
        for r in archive.scenes(one_station(), "sentinel1", *PERIOD).itertuples()
    ]  # fmt: skip
    came = []
    for request, chip in archive.chips(asked):
        came.append(request.scene_id)
        second_came.set()
        assert isinstance(chip, Chip)
    assert came == ["fast", "slow"]


def test_closing_the_generator_early_leaves_no_thread_behind(tmp_path):
    import threading

    path = image(tmp_path, "v", flat(-9.0))
    items = [radar_item(f"x{n:02d}", f"2020-06-{n + 1:02d}T00:10:00Z", assets={"vv": path})
             for n in range(28)]  # fmt: skip
    archive = radar(tmp_path, items)
    table = archive.scenes(one_station(), "sentinel1", *PERIOD)
    grid = make.grid_at(*HERE)
    asked = [
        ChipRequest("sentinel1", r.scene_id, "A__1", r.end.to_datetime64(), ("VV",), grid)
        for r in table.itertuples()
    ]
    before = threading.active_count()
    answers = archive.chips(iter(asked))
    assert isinstance(next(answers)[1], Chip)
    answers.close()
    assert threading.active_count() == before
    assert len(dict(archive.chips(asked))) == 28
