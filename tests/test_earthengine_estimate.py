"""What an export costs is told before it is asked for, and where the numbers come from."""

import numpy as np
import pytest

from soilkit.contracts import ChipRequest, Grid
from soilkit.export.archives.earthengine import estimate_cost, parts
from soilkit.export.archives.earthengine.executor import Policy

NOW = np.datetime64("2020-06-01", "us")


def estimate(wanted, *, concurrency=32):
    return estimate_cost(wanted, policy=Policy(concurrency=concurrency))


def request(source, n_bands, size_px=512, number=0):
    grid = Grid("EPSG:32632", 500_000, 5_000_000, 10, size_px, size_px)
    bands = tuple(f"b{i}" for i in range(n_bands))
    return ChipRequest(source, f"scene{number}", "N__S", NOW, bands, grid)


def test_bytes_are_float32_times_bands_times_pixels():
    """Three bands of 512 x 512 are 3 MiB, whatever the service compresses them to."""
    found = estimate([request("sentinel1", 3)])
    assert found.by_source.bytes.sum() == 4 * 3 * 512 * 512 == 3 * 2**20
    assert found.requests == 1


def test_a_chip_above_the_payload_limit_takes_several_requests():
    """48 MiB pass in one request; a byte more comes in quarters, 193 MiB in sixteenths."""
    assert parts(48 * 2**20) == 1
    assert parts(48 * 2**20 + 1) == 4
    assert parts(193 * 2**20) == 16
    found = estimate([request("sentinel2", 10, size_px=2048), request("sentinel2", 10)])
    assert (found.by_source.chips["sentinel2"], found.requests) == (2, 5)


def test_sources_are_told_apart_and_add_up():
    """The table has a row a source and their total."""
    wanted = [request("sentinel2", 10, number=i) for i in range(3)] + [request("dem", 1)]
    found = estimate(iter(wanted))
    assert found.by_source.chips.to_dict() == {"dem": 1, "sentinel2": 3}
    assert found.table().iloc[-1].tolist() == ["total", "4", "4", "32.5 MB"]


def test_minutes_follow_the_concurrency():
    """Half the places, twice the time: 1,920 requests of 3 s at 32 take three minutes."""
    wanted = [request("sentinel1", 3, number=i) for i in range(1920)]
    assert estimate(wanted).minutes == pytest.approx(3)
    assert estimate(wanted, concurrency=16).minutes == pytest.approx(6)


def test_no_export_is_faster_than_the_request_rate():
    """100 requests a second are the project's limit: 6,000 take a minute however many at once."""
    wanted = [request("sentinel1", 3, number=i) for i in range(6000)]
    policy = Policy(concurrency=1000, service_limit=1000)
    assert estimate_cost(wanted, policy=policy).minutes == pytest.approx(1)


def test_compute_is_a_wide_range_called_assumed():
    """Nobody publishes what a chip costs, and the estimate says so."""
    found = estimate([request("sentinel1", 3, number=i) for i in range(3600)])
    assert found.eecu_hours_high / found.eecu_hours_low == pytest.approx(100)
    assert "assumed, not known" in found.basis
    assert "Community 150" in found.basis


def test_it_reads_in_a_terminal():
    """Columns line up, and the facts stand below."""
    wanted = [request("sentinel1", 3, number=i) for i in range(12_345)]
    lines = str(estimate([*wanted, request("dem", 1)])).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[2].split() == ["sentinel1", "12,345", "12,345", "38.8", "GB"]
    assert [line.split()[0] for line in lines[4:]] == ["time", "compute", "basis"]
    assert "about 19 minutes" in lines[4]


def test_it_shows_as_a_table_in_a_notebook():
    """The same cells in HTML, with nothing of a name taken for markup."""
    shown = estimate([request("a<b", 1)])._repr_html_()
    assert "<td>a&lt;b</td>" in shown and "a<b" not in shown
    assert shown.count("<tr") == 3


def test_nothing_to_fetch_costs_nothing():
    """A build that has it all asks for nothing."""
    found = estimate([])
    assert (found.requests, found.minutes, found.eecu_hours_high) == (0, 0, 0)
    assert "total" in str(found)


def test_compute_is_told_to_two_digits():
    """A million requests of 0.1 to 10 s: nobody knows a third digit, or reads 2.8e+03."""
    wanted = [request("dem", 1, 8)] * 1_000_000
    assert "compute  28 to 2,800 E" in str(estimate(wanted))
