"""The doctor tells what Earth Engine no longer holds before an export finds out."""

import logging

import numpy as np
import pytest

from soilkit import sources
from soilkit.errors import BoundError, DatasetError, UnknownNameError
from soilkit.export.archives.earthengine import doctor
from soilkit.export.archives.earthengine.executor import ServiceError, fault_of_status

S1 = "COPERNICUS/S1_GRD"
KEYS = {
    "exists", "type", "bands", "begins", "ends", "deprecated", "successor", "page", "taken",
    "uncertain", "from",
}  # fmt: skip


def changed(asset, **values):
    """The pinned facts with one asset's changed."""
    known = doctor.load_facts()
    known[asset] = {**known[asset], **values}
    return known


def statuses(name, **options):
    return doctor.examine([name], **options).status.tolist()


def test_every_row_of_the_catalogue_is_examined():
    """No source is passed over, and every asset that we read has a pinned fact."""
    table = doctor.examine()
    assert list(dict.fromkeys(table.source)) == [s.name for s in sources.CATALOGUE]
    for source in sources.CATALOGUE:
        if source.asset:
            assert set(doctor.assets_of(source.name)) <= set(doctor.load_facts())


def test_the_pinned_facts_say_when_and_where_they_were_read():
    """A fact without a day and a page is hearsay."""
    for asset, fact in doctor.load_facts().items():
        assert set(fact) == KEYS, asset
        assert np.datetime64(fact["taken"]) > np.datetime64("2026-01-01")
        assert fact["from"]
        assert fact["page"].startswith("https://")
        assert set(fact["uncertain"]) <= KEYS


def test_the_papers_smap_is_deprecated_and_ended():
    """SMAP10KM ends on 2022-08-02; Level 4 replaces it."""
    table = doctor.examine(["smap"], start="2019-01-01", end="2023-01-01")
    assert table.status.tolist() == ["deprecated", "ended"]
    assert "2022-08-02" in table.what[1]
    assert table.advice.str.contains("NASA/SMAP/SPL4SMGP/008, here 'smap_l4'").all()
    assert not table.blocks.any()
    assert statuses("smap", start="2019-01-01", end="2022-01-01") == ["deprecated"]


def test_smap_level_3_lies_in_two_collections():
    """Version 5 to 2023-12-03, version 6 after: a period across needs both."""
    period = {"start": "2023-01-01", "end": "2024-06-01"}
    assert statuses("smap_l3_005", **period) == ["ended"]
    assert statuses("smap_l3_006", **period) == ["begins later"]
    assert statuses("smap_l3_005", start="2020-01-01", end="2023-12-04") == ["ok"]
    assert statuses("smap_l3_006", start="2023-12-04", end="2024-06-01") == ["ok"]


def test_the_elevation_that_replaced_deprecated_ones_says_so():
    """Who looks for USGS/3DEP/10m finds the collection that came after it."""
    table = doctor.examine(["dem_3dep"])
    assert table.status.tolist() == ["ok"]
    assert "replaces USGS/3DEP/10m" in table.what[0]


def test_modis_is_read_from_collection_061():
    """Collection 006 ended in 2023; none of our rows lives there."""
    table = doctor.examine([s.name for s in sources.CATALOGUE if s.name.startswith("modis")])
    assert table.asset.str.startswith("MODIS/061/").all()
    assert set(table.status) == {"ok"}
    assert "replaces MODIS/006/MCD15A3H" in table.what[table.source == "modis_lai"].item()


def test_what_earth_engine_lacks_names_another_home():
    """SMAP-HydroBlocks lives on Zenodo, and a search for it in Earth Engine is in vain."""
    (row,) = doctor.examine(["smap_hydroblocks"]).itertuples()
    assert (row.status, row.asset, row.blocks) == ("not in earth engine", "", True)
    assert "zenodo" in row.advice


def test_what_was_not_verified_is_not_called_fine():
    """Community assets were not seen: unknown; unseen bands are named beside an ok."""
    assert set(statuses("polaris")) == {"unknown"}
    (row,) = doctor.examine(["landsat9"]).itertuples()
    assert row.status == "ok"
    assert row.what.endswith("not verified: bands")


def test_an_asset_without_a_fact_is_unknown():
    """Silence is no health."""
    known = doctor.load_facts()
    del known[S1]
    (row,) = doctor.examine(["sentinel1"], facts=known).itertuples()
    assert (row.status, row.blocks) == ("unknown", False)
    assert "refresh" in row.advice


def test_a_missing_band_is_named_and_blocks():
    """An export of VH from a collection without it would fail chip by chip."""
    (row,) = doctor.examine(["sentinel1"], facts=changed(S1, bands=["VV", "angle"])).itertuples()
    assert (row.status, row.blocks) == ("band missing", True)
    assert "no band VH among VV, angle" in row.what


def test_a_missing_band_that_nobody_asks_for_does_not_block(monkeypatch):
    """Its advice is to leave the band out: whoever does so gets the rest."""
    known = changed(S1, bands=["VV", "angle"])
    (row,) = doctor.examine({"sentinel1": ("VV", "angle")}, facts=known).itertuples()
    assert (row.status, row.blocks) == ("ok", False)
    monkeypatch.setattr(doctor, "load_facts", lambda: known)
    with pytest.raises(DatasetError, match="no band VH"):
        doctor.require({"sentinel1": ("VH",)})


def test_a_band_that_was_never_verified_does_not_block():
    """A list of bands that nobody has seen is no reason to refuse an export."""
    known = changed(S1, bands=["VV"], uncertain=["bands"])
    (row,) = doctor.examine(["sentinel1"], facts=known).itertuples()
    assert (row.status, row.blocks) == ("band missing", False)


def test_a_gone_asset_is_renamed_where_a_successor_is_known():
    """Gone with a successor is another name; gone without one is gone."""
    renamed = changed(S1, exists=False, successor="COPERNICUS/S1_NEW")
    (row,) = doctor.examine(["sentinel1"], facts=renamed).itertuples()
    assert (row.status, row.blocks) == ("renamed", True)
    assert "COPERNICUS/S1_NEW" in row.advice
    assert statuses("sentinel1", facts=changed(S1, exists=False)) == ["not in earth engine"]


def test_dates_of_static_layers_do_not_matter():
    """NASADEM was acquired in February 2000 and serves 2020."""
    known = changed("NASA/NASADEM_HGT/001", begins="2000-02-11", ends="2000-02-22")
    assert statuses("dem", start="2020-01-01", end="2021-01-01", facts=known) == ["ok"]


@pytest.mark.parametrize(
    ("name", "start", "end", "blocks"),
    [
        ("smap_l3_005", "2023-12-04", "2024-01-01", True),  # from its exclusive end on
        ("smap_l3_005", "2023-12-03", "2024-01-01", False),  # its last day
        ("smap_l3_006", "2023-12-01", "2023-12-04", True),  # up to its first day, exclusive
        ("smap_l3_006", "2023-12-01", "2023-12-05", False),
    ],
)
def test_a_period_that_only_touches_a_source_has_nothing(name, start, end, blocks):
    """Ends are exclusive, the catalogue's and the question's."""
    assert doctor.examine([name], start=start, end=end).blocks.tolist() == [blocks]


def test_an_export_is_stopped_by_what_cannot_come(caplog):
    """Version 5 has nothing in 2024: the error names its successor, and only what blocks."""
    with pytest.raises(DatasetError, match="smap_l3_005: ended.*'smap_l3_006'") as caught:
        doctor.require(["sentinel1", "smap_l3_005"], start="2024-01-01", end="2025-01-01")
    assert "1 of the sources" in str(caught.value)
    assert "sentinel1" not in str(caught.value)


def test_an_export_is_warned_of_what_ends_within_it(caplog):
    """A source that ends half-way is the user's choice: a warning with the successor."""
    with caplog.at_level(logging.WARNING):
        doctor.require(["sentinel1", "smap"], start="2022-01-01", end="2023-01-01")
    assert any("ended on 2022-08-02" in m and "smap_l4" in m for m in caplog.messages)
    assert not any("sentinel1" in m for m in caplog.messages)


def test_a_source_before_its_first_image_blocks():
    """Landsat 9 has nothing in 2020; a period that reaches its start is only warned of."""
    with pytest.raises(DatasetError, match="begins later: begins on 2021-10-31"):
        doctor.require(["landsat9"], start="2020-01-01", end="2021-01-01")
    doctor.require(["landsat9"], start="2021-01-01", end="2022-01-01")


def test_bad_questions_are_refused():
    """A source that nobody knows, a period backwards."""
    with pytest.raises(UnknownNameError, match="sentinel9"):
        doctor.examine(["sentinel9"])
    with pytest.raises(BoundError, match="ends before it starts"):
        doctor.examine(["dem"], start="2021-01-01", end="2020-01-01")


def day_ms(day):
    return int(np.datetime64(day, "ms").astype(int))


class Catalogue:
    """What the service would tell: Sentinel-1 goes on, SMAP10KM ended, one is gone, one refused."""

    def __init__(self):
        self.asked = []

    def __call__(self, method, asset):
        self.asked.append(asset)
        now = str(np.datetime64("today") - 3)
        if asset == S1:
            period = [day_ms("2014-10-03"), day_ms(now)]
            return {"type": "IMAGE_COLLECTION", "properties": {"date_range": period}}
        if asset == "NASA_USDA/HSL/SMAP10KM_soil_moisture":
            times = {"startTime": "2015-04-02T12:00:00Z", "endTime": "2022-08-01T12:00:00Z"}
            return {"type": "IMAGE_COLLECTION", **times, "bands": [{"id": "ssm"}, {"id": "new"}]}
        if asset == "MERIT/DEM/v1_0_3":
            raise ServiceError(fault_of_status(404, "Asset not found.", name="NOT_FOUND"))
        raise ServiceError(fault_of_status(403, "Permission denied.", name="PERMISSION_DENIED"))


def test_facts_are_read_anew_from_the_service(caplog, monkeypatch):
    """What it tells is taken, what it does not is kept and named, what it refuses is logged."""
    ask = Catalogue()
    monkeypatch.setattr(doctor, "call", ask)
    with caplog.at_level(logging.WARNING):
        found = doctor.refresh(["sentinel1", "smap", "dem_merit", "dem"])
    assert len(ask.asked) == 4
    radar, smap = found[S1], found["NASA_USDA/HSL/SMAP10KM_soil_moisture"]
    assert radar["ends"] == ""  # still growing
    assert radar["bands"] == doctor.load_facts()[S1]["bands"]
    assert "kept from 2026-11-21: bands, deprecated" in radar["from"]
    assert radar["taken"] == str(np.datetime64("today"))
    assert (smap["begins"], smap["ends"]) == ("2015-04-02", "2022-08-02")
    assert smap["bands"] == ["ssm", "new"]
    assert smap["deprecated"]
    assert statuses("dem_merit", facts=found) == ["not in earth engine"]
    assert found["NASA/NASADEM_HGT/001"] == doctor.load_facts()["NASA/NASADEM_HGT/001"]
    assert any("NASA/NASADEM_HGT/001 (permission" in m for m in caplog.messages)


def test_a_fact_that_was_read_is_certain_from_then_on(monkeypatch):
    """Bands that the service lists need no caveat any more."""
    told = {"type": "IMAGE", "bands": [{"id": "sand_0_5"}]}
    monkeypatch.setattr(doctor, "call", lambda method, asset: told)
    found = doctor.refresh(["polaris"])
    fact = found["projects/sat-io/open-datasets/polaris/sand_mean/sand_0_5"]
    assert fact["uncertain"] == []
    assert statuses("polaris", facts=found) == ["ok"] * 13


def test_facts_of_a_new_asset_are_whole(monkeypatch):
    """An asset that was never pinned gets every field, so that the doctor can read it."""
    monkeypatch.setattr(doctor, "call", lambda method, asset: {"type": "IMAGE"})
    monkeypatch.setattr(doctor, "load_facts", dict)
    found = doctor.refresh(["dem"])
    assert set(found["NASA/NASADEM_HGT/001"]) == KEYS
    assert statuses("dem", facts=found) == ["ok"]
