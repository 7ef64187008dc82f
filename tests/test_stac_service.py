"""A STAC API is searched by place and time, page by page, and its failures are said plainly."""

import numpy as np
import pytest

from soilkit.contracts import Chip, ChipRequest, Failure
from soilkit.errors import CatalogueError
from soilkit.export.archives.stac import StacArchive
from tests import helpers_stac as make

HERE = 36.4, -99.2
PERIOD = "2020-06-01", "2020-07-01"


def one_station():
    return make.stations(A__1=HERE)


@pytest.fixture
def api(tmp_path):
    """Ten passes over the station in June, one in July, one far away, served three a page."""
    path = make.raster(tmp_path / "v.tif", np.full((64, 64), -9, "float32"), make.grid_at(*HERE))
    told = {"sar:instrument_mode": "IW", "sar:polarizations": ["VV", "VH"]}

    def one(item_id, day, place=HERE):
        area = make.around(*place)
        assets = {"vv": {"href": path, "bands": [{"unit": "dB"}]}}
        return make.item(item_id, "sentinel-1-rtc", geometry=area, time=day, assets=assets, **told)

    items = [one(f"s{n:02d}", f"2020-06-{2 * n + 1:02d}T00:10:00Z") for n in range(10)]
    items += [one("july", "2020-07-02T00:10:00Z"), one("far", "2020-06-03T00:10:00Z", (50.0, 7.0))]
    with make.serving(make.Api(items)) as service:
        yield service


def requests_for(table):
    grid = make.grid_at(*HERE)
    return [
        ChipRequest("sentinel1", r.scene_id, "A__1", r.end.to_datetime64(), ("VV",), grid)
        for r in table.itertuples()
    ]


def test_a_search_follows_the_pages_and_asks_for_place_time_and_collection_only(api):
    table = StacArchive(api.url).scenes(one_station(), "sentinel1", *PERIOD)
    assert table.scene_id.tolist() == [f"s{n:02d}" for n in range(10)]
    assert len(api.asked) == 4 and {a["collections"][0] for a in api.asked} == {"sentinel-1-rtc"}
    assert {a["datetime"] for a in api.asked} == {"2020-05-31T23:50:00Z/2020-07-01T00:10:00Z"}
    west, south, east, north = api.asked[0]["bbox"]
    assert east - west < 0.05 and north - south < 0.05  # the station's footprint


def test_chips_of_known_items_ask_the_service_for_nothing(api):
    archive = StacArchive(api.url)
    table = archive.scenes(one_station(), "sentinel1", *PERIOD)
    api.asked.clear()
    answers = dict(archive.chips(requests_for(table)))
    assert all(isinstance(one, Chip) and (one.values == -9).all() for one in answers.values())
    assert not api.asked


def test_a_resumed_build_asks_for_its_items_together_or_finds_them_in_the_cache(api, tmp_path):
    """A new session knows scene ids only: fifty items a search, and none with a cache."""
    table = StacArchive(api.url, cache_dir=tmp_path).scenes(one_station(), "sentinel1", *PERIOD)
    api.page = 100
    for options, searches in (({}, 1), ({"cache_dir": tmp_path}, 0)):
        archive = StacArchive(api.url, **options)
        api.asked.clear()
        answers = dict(archive.chips(requests_for(table)))
        assert len(answers) == 10 and all(isinstance(one, Chip) for one in answers.values())
        assert len(api.asked) == searches


@pytest.mark.parametrize(
    "fault, said", [("error", "on fire"), ("second page", "on fire"), ("html", ""), ("stall", "")]
)
def test_a_service_that_breaks_is_named_with_what_it_was_asked(api, fault, said):
    archive = StacArchive(api.url, timeout_s=0.5)
    api.fault = fault
    with pytest.raises(CatalogueError, match="127.0.0.1.*did not answer.*sentinel-1-rtc") as error:
        archive.scenes(one_station(), "sentinel1", *PERIOD)
    assert said in str(error.value) and "try again" in str(error.value)


def test_chips_are_asked_for_again_after_a_service_broke(api):
    table = StacArchive(api.url).scenes(one_station(), "sentinel1", *PERIOD)
    archive = StacArchive(api.url)
    api.fault = "error"
    answers = list(archive.chips(requests_for(table)))
    assert len(answers) == 10
    assert all(isinstance(one, Failure) and not one.permanent for _, one in answers)
    api.fault = ""
    assert all(isinstance(one, Chip) for _, one in archive.chips(requests_for(table)))


def test_nobody_at_an_address_is_an_error(api):
    with pytest.raises(CatalogueError, match="127.0.0.1:9.*did not answer.*check the address"):
        StacArchive("http://127.0.0.1:9", timeout_s=0.5)


def test_addresses_of_assets_are_signed_when_they_are_opened(api, tmp_path):
    signed = []

    def sign(href):
        signed.append(href)
        return href

    archive = StacArchive(api.url, sign=sign)
    table = archive.scenes(one_station(), "sentinel1", *PERIOD)
    assert not signed
    list(archive.chips(requests_for(table.iloc[:1])))
    assert [href.endswith("v.tif") for href in signed] == [True]
