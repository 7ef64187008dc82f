"""Triple collocation finds errors that were put in, and refuses series that share theirs."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.metrics import collocation

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")
PIXELS = DATA / "smap_nldas_conus" / "CONUSv4f1.zip"
SCAN = DATA / "scan_snotel_daily"
needs_data = pytest.mark.skipif(
    not (PIXELS.exists() and SCAN.exists()),
    reason="SOILKIT_TEST_DATA names no folder with SMAP pixels and SCAN stations",
)
OWN = {"x": ["in_situ"], "y": ["smap_l3_005"], "z": ["gldas"]}
START, DAY = np.datetime64("2020-01-01", "us"), np.timedelta64(1, "D")


def triplets(x, y, z, *, names=("x", "y", "z")):
    """Daily triplets; rows of each array are sensors."""
    x, y, z = (np.atleast_2d(series) for series in (x, y, z))
    m, n = x.shape
    columns = {name: s.ravel() for name, s in zip(names, (x, y, z), strict=True)}
    return pd.DataFrame(
        {
            "sensor_id": np.repeat([f"s{i:03d}" for i in range(m)], n),
            "time": np.tile(START + np.arange(n) * DAY, m),
            **columns,
        }
    )


def waves(n=240):
    """Four series that are exactly orthogonal, of mean zero and variance one."""
    t = np.arange(n)
    return [np.sqrt(2) * np.cos(2 * np.pi * k * t / n) for k in (3, 17, 29, 41)]


def autoregressive(rng, shape, rho):
    noise = rng.standard_normal(shape)
    noise[:, 0] /= np.sqrt(1 - rho**2)
    return lfilter([np.sqrt(1 - rho**2)], [1, -rho], noise, axis=1)


def test_known_errors_come_back_exactly():
    """Orthogonal errors: the algebra has nothing left to estimate."""
    truth, a, b, c = waves()
    table = triplets(
        0.2 + 0.05 * truth + 0.02 * a, 0.1 + 0.03 * truth + 0.03 * b, 0.3 + 0.1 * truth + 0.05 * c
    )
    found = metrics.triple_collocation(table, OWN).set_index("series")
    np.testing.assert_allclose(found["error_variance_m6_m6"], [4e-4, 9e-4, 25e-4], rtol=1e-10)
    np.testing.assert_allclose(found["error_std_m3_m3"], [0.02, 0.03, 0.05], rtol=1e-10)
    # R^2 = signal / (signal + error): 25 / 29, 9 / 18, 100 / 125. SNR = 10 log10(signal / error).
    np.testing.assert_allclose(found["r"] ** 2, [25 / 29, 0.5, 0.8], rtol=1e-10)
    np.testing.assert_allclose(
        found["snr_db"], 10 * np.log10([25 / 4, 1, 100 / 25]), rtol=1e-9, atol=1e-9
    )


def test_r_and_snr_do_not_depend_on_the_unit():
    """A series in percent or in mm has the same R and SNR, and an error in its own unit."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(300)
    x, y, z = (truth + s * rng.standard_normal(300) for s in (0.5, 0.7, 0.9))
    one = metrics.triple_collocation(triplets(x, y, z), OWN)
    other = metrics.triple_collocation(triplets(x, 100 * y + 1e4, z), OWN)
    np.testing.assert_allclose(one[["r", "snr_db"]], other[["r", "snr_db"]], rtol=1e-9)
    ratio = other["error_std_m3_m3"] / one["error_std_m3_m3"]
    np.testing.assert_allclose(ratio, [1, 100, 1], rtol=1e-9)


def test_triple_collocation_agrees_with_pytesmo():
    """To 1e-12: SNR as it is, errors in each series' own unit where pytesmo takes the first's.

    Pytesmo's covariances have n - 1 below the line and ours n.
    """
    theirs = pytest.importorskip("pytesmo.metrics", reason="needs the validation extra")
    rng, n = np.random.default_rng(5), 500
    truth = rng.standard_normal(n)
    series = [
        0.25 + slope * (truth + scale * rng.standard_normal(n))
        for slope, scale in ((0.05, 0.5), (0.03, 0.7), (0.08, 0.9))
    ]
    found = metrics.triple_collocation(triplets(*series), OWN)
    snr, error, beta = theirs.tcol_metrics(*series)
    np.testing.assert_allclose(found["snr_db"], snr, rtol=0, atol=1e-12)
    expected = error / beta * np.sqrt((n - 1) / n)
    np.testing.assert_allclose(found["error_std_m3_m3"], expected, rtol=0, atol=1e-12)


def test_many_sensors_at_once_are_each_alone():
    """Rows in any order, gaps in one series: each sensor is what it is by itself."""
    rng = np.random.default_rng(1)
    truth = rng.standard_normal((4, 200))
    table = triplets(*(truth + s * rng.standard_normal((4, 200)) for s in (0.5, 0.7, 0.9)))
    table.loc[table.index % 7 == 0, "y"] = np.nan
    together = metrics.triple_collocation(table.sample(frac=1, random_state=0), OWN)
    for sensor, part in table.groupby("sensor_id"):
        alone = metrics.triple_collocation(part.reset_index(drop=True), OWN)
        chosen = together[together["sensor_id"] == sensor].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, chosen, rtol=1e-9)
    # By the textbook, with numpy's covariances.
    part = table[(table["sensor_id"] == "s002") & table["y"].notna()]
    q = np.cov(part[["x", "y", "z"]].to_numpy().T, ddof=0)
    first = together[together["sensor_id"] == "s002"].iloc[0]
    assert first["n"] == len(part)
    assert first["error_variance_m6_m6"] == pytest.approx(q[0, 0] - q[0, 1] * q[0, 2] / q[1, 2])
    assert first["r"] == pytest.approx(np.sqrt(q[0, 1] * q[0, 2] / (q[0, 0] * q[1, 2])))


@pytest.mark.parametrize(
    ("shape", "rho"),
    [
        pytest.param((120, 300), (0.5, 0.2), id="short"),
        pytest.param((600, 500), (0.8, 0.3), id="weeks", marks=pytest.mark.slow),
        pytest.param((600, 1000), (0.95, 0.3), id="month", marks=pytest.mark.slow),
        pytest.param((600, 1000), (0.9, 0.5), id="errors", marks=pytest.mark.slow),
    ],
)
def test_intervals_hold_the_truth(shape, rho):
    """95 % intervals of error variance and R cover the known truth in 87-99 % of series."""
    rng = np.random.default_rng(2)
    truth = autoregressive(rng, shape, rho[0])
    slopes, sds = np.array([1, 0.7, 1.4]), np.array([0.4, 0.6, 0.8])
    series = [
        b * truth + s * autoregressive(rng, shape, rho[1]) for b, s in zip(slopes, sds, strict=True)
    ]
    found = metrics.triple_collocation(triplets(*series), OWN)
    assert (found["status"] == "ok").mean() > 0.98
    known = {
        "error_variance_m6_m6": np.tile(sds**2, shape[0]),
        "r": np.tile(slopes / np.sqrt(slopes**2 + sds**2), shape[0]),
    }
    for name, value in known.items():
        inside = (found[f"{name}_lower"] <= value) & (value <= found[f"{name}_upper"])
        rate = inside[found[f"{name}_lower"].notna()].groupby(found["series"]).mean()
        assert ((rate > 0.87) & (rate < 0.99)).all(), (name, rate.to_dict())


def test_a_seed_repeats_the_intervals():
    """The same seed gives the same interval, another a slightly different one."""
    rng = np.random.default_rng(3)
    truth = rng.standard_normal(300)
    table = triplets(*(truth + s * rng.standard_normal(300) for s in (0.5, 0.7, 0.9)))
    first, again, other = (metrics.triple_collocation(table, OWN, seed=s) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert (first["r_lower"] != other["r_lower"]).all()
    np.testing.assert_allclose(first["r_lower"], other["r_lower"], atol=0.02)


# Sources


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"x": ["in_situ"], "y": ["smap"], "z": ["sentinel1", "smap"]}, "y and z share SMAP"),
        ({"x": ["in_situ"], "y": ["smap"], "z": ["gldas"]}, "share precipitation analysis"),
        ({"x": ["in_situ"], "y": ["smap_l4"], "z": ["nldas2_noah"]}, "share precipitation"),
        ({"x": ["in_situ"], "y": ["smap_l3_005"], "z": ["smap"]}, "share SMAP brightness"),
        ({"x": ["in_situ"], "y": ["sentinel1", "in_situ"], "z": ["gldas"]}, "share in_situ"),
        ({"x": ["in_situ"], "y": ["smap_l3"], "z": ["SMAP L4"]}, "share SMAP brightness"),
        ({"x": ["in_situ"], "y": ["SMAP10KM"], "z": ["gldas"]}, "share precipitation"),
        ({"x": ["in_situ"], "y": ["ESA CCI"], "z": ["ASCAT"]}, "share ASCAT"),
        ({"x": ["ISMN"], "y": ["ERA5-Land"], "z": ["MERRA-2"]}, "share precipitation"),
        ({"x": ["in_situ"], "y": ["radar"], "z": ["gldas"]}, "not known what radar .y. is made"),
    ],
)
def test_triplets_that_share_a_source_are_refused(sources, words):
    """Our fusion with SMAP inside, two models fed by rain, a model trained on the probe."""
    truth, a, b, c = waves()
    table = triplets(truth + a, truth + b, truth + c)
    with pytest.raises(ContractError, match=words):
        metrics.triple_collocation(table, sources)
    labelled = metrics.triple_collocation(table, sources, allow_shared=True)
    assert labelled["shared"].str.contains(words).all()
    assert metrics.triple_collocation(table, OWN)["shared"].eq("").all()
    stated = OWN | {"z": ["independent: radar"]}
    assert metrics.triple_collocation(table, stated)["shared"].eq("").all()


def test_a_shared_error_is_taken_for_truth():
    """Why it is refused: with a common error, two series look far better than they are."""
    truth, a, b, c = waves()
    table = triplets(truth + 0.3 * a, truth + b, truth + b + 0.3 * c)
    sources = {"x": ["in_situ"], "y": ["smap"], "z": ["smap", "sentinel1"]}
    found = metrics.triple_collocation(table, sources, allow_shared=True).set_index("series")
    # Qxy = Qxz = 1, Qyz = 2: y's error seems 2 - 1 * 2 / 1 = 0 instead of 1, x's 1.09 - 1 / 2.
    assert found.loc["y", "error_variance_m6_m6"] == pytest.approx(0, abs=1e-12)
    assert found.loc["x", "error_variance_m6_m6"] == pytest.approx(0.59, rel=1e-9)


def test_sources_and_columns_must_be_named():
    """Two series, a series without source, a missing column, two triplets at one time."""
    truth, a, b, c = waves()
    table = triplets(truth + a, truth + b, truth + c)
    with pytest.raises(ContractError, match="three series, found 2"):
        metrics.triple_collocation(table, {"x": ["a"], "y": ["b"]})
    with pytest.raises(ContractError, match="z names no source"):
        metrics.triple_collocation(table, {"x": ["a"], "y": ["b"], "z": []})
    with pytest.raises(ContractError, match="lack the columns w"):
        metrics.triple_collocation(table, {"x": ["a"], "y": ["b"], "w": ["c"]})
    with pytest.raises(ContractError, match="two triplets at one time"):
        metrics.triple_collocation(pd.concat([table, table]), OWN)


# Edges: a status for each


def status(table, **options):
    found = metrics.triple_collocation(table, OWN, **options)
    missing = found[["error_variance_m6_m6", "r", "snr_db"]].isna().any(axis=1)
    assert not (missing & (found["status"] == "ok")).any(), "a silent NaN"
    return found.set_index("series")


def test_too_few_triplets_say_so():
    """Ninety-nine complete rows of 240, and a sensor that has none at all."""
    truth, a, b, c = waves()
    table = triplets(truth + a, truth + b, truth + c)
    few = status(table.assign(x=table["x"].where(table.index < 99)))
    assert set(few["status"]) == {"too few triplets: 99 < 100"} and few["r"].isna().all()
    none = status(table.assign(x=np.nan))
    assert set(none["status"]) == {"too few triplets: 0 < 100"}
    mixed = pd.concat([table.assign(x=np.nan), table.assign(sensor_id="t")], ignore_index=True)
    found = metrics.triple_collocation(mixed, OWN)
    assert found["r"].notna().tolist() == [False] * 3 + [True] * 3
    assert metrics.triple_collocation(table.iloc[:0], OWN).empty


def test_constant_series_and_unrelated_ones_say_so():
    """A stuck probe; a series that knows nothing of the truth; one that knows the opposite."""
    truth, a, b, c = waves()
    stuck = status(triplets(truth * 0 + 0.2, truth + b, truth + c))
    assert set(stuck["status"]) == {"constant series: x"}
    unrelated = status(triplets(a, truth + b, truth + c))
    assert set(unrelated["status"]) == {
        "no common truth: covariance not positive, x and y; x and z"
    }
    opposite = status(triplets(-truth, truth + b, truth + c))
    assert opposite["status"].str.startswith("no common truth").all() and opposite["r"].isna().all()


def test_a_negative_error_variance_is_shown_and_named():
    """Two series with a common error: the third's partner seems to have less than none."""
    truth, a, b, _ = waves()
    # Qxx = 1.01, Qxy = 1 + 0.2 = 1.2 by a common error, Qxz = Qyz = 1: x's error 1.01 - 1.2 < 0.
    x, y, z = truth + 0.1 * a, truth + 2 * a, truth + b
    found = status(triplets(x, y, z))
    assert found.loc["x", "error_variance_m6_m6"] == pytest.approx(-0.19, rel=1e-9)
    assert np.isnan(found.loc["x", "r"]) and np.isnan(found.loc["x", "error_std_m3_m3"])
    assert found["status"].str.startswith("negative error variance: x").all()
    assert found.loc["z", "error_variance_m6_m6"] == pytest.approx(2 - 1 / 1.2, rel=1e-9)


def test_a_long_memory_gives_estimates_without_intervals():
    """A year of slow series is worth few triplets: the estimates stand, the intervals do not."""
    rng = np.random.default_rng(4)
    truth = autoregressive(rng, (1, 365), 0.98)
    errors = [0.3 * autoregressive(rng, (1, 365), 0.9) for _ in range(3)]
    found = status(triplets(*(truth + e for e in errors)))
    assert found["n_effective"].max() < collocation.MIN_EFFECTIVE
    assert found["status"].str.contains("effective triplets < 80").all()
    assert found["r"].notna().all() and found["r_lower"].isna().all()


def test_a_weak_common_truth_gives_no_interval():
    """Where many draws find no positive covariance, percentiles of the rest would flatter."""
    rng = np.random.default_rng(5)
    truth = rng.standard_normal(400)
    weak = [0.3 * truth + rng.standard_normal(400) for _ in range(3)]
    found = status(triplets(*weak))
    assert found["r_lower"].isna().all()
    assert found["status"].str.contains("of the draws have no common truth").all()


def test_predictions_become_triplets():
    """The observations and two models on their common samples."""
    base = pd.DataFrame(
        {
            "sample_id": ["a", "b", "c"], "sensor_id": "s", "station_id": "s", "network": "N",
            "time": START + np.arange(3) * DAY, "observed_m3_m3": [0.1, 0.2, 0.3],
            "predicted_m3_m3": [0.1, 0.2, 0.25], "model": "ours", "split": "test",
        }
    )  # fmt: skip
    other = base.assign(model="SMAP", predicted_m3_m3=[0.3, np.nan, 0.4])
    found = metrics.triplets_of([base, other])
    assert found.columns.tolist() == ["sensor_id", "time", "in_situ", "ours", "SMAP"]
    assert found[["in_situ", "ours", "SMAP"]].to_numpy().tolist() == [
        [0.1, 0.1, 0.3],
        [0.3, 0.25, 0.4],
    ]
    with pytest.raises(ContractError, match="names of their own"):
        metrics.triplets_of([base, base])


# Real series


def pixel_csv(name):
    """A table of the pixel archive, (pixel, day)."""
    with zipfile.ZipFile(PIXELS) as archive, archive.open(f"CONUSv4f1/{name}") as file:
        return pd.read_csv(file, header=None).to_numpy()


def real_triplets():
    """Anomalies of SCAN probes, SMAP Level 3 and NLDAS-2's antecedent rain, 2015-04 to 2017-03."""
    years = ("2015", "2016")
    time = np.concatenate([pd.to_datetime(pixel_csv(f"{y}/timeStr.csv")[:, 0]) for y in years])
    smap = np.concatenate([pixel_csv(f"{y}/SMAP_AM.csv") for y in years], axis=1)
    rain = np.concatenate([pixel_csv(f"{y}/APCP_FORA.csv") for y in years], axis=1).clip(0)
    # An index that loses a tenth a day: rain of the days before, as a bucket would hold it.
    index = lfilter([0, 1], [1, -0.9], rain, axis=1)
    places = pd.read_csv(SCAN / "scan_stations.csv", sep=";")
    number = places["Name"].str.extract(r"\((\d+)\)")[0].astype(float)
    probes = pd.read_parquet(SCAN / "scan_daily_2in.parquet")
    grid, parts = pixel_csv("crd.csv"), []
    for row, place in places.iterrows():
        apart = np.hypot(
            grid[:, 0] - place["Lat"],
            (grid[:, 1] - place["Long"]) * np.cos(np.radians(place["Lat"])),
        )
        k = int(apart.argmin())
        probe = probes[probes["Station Id"] == number[row]].set_index("Date")
        if apart[k] > 0.35 or probe.empty:
            continue
        probe = probe.reindex(time)
        warm = np.where(probe["st_2in"] > 2, probe["sm_2in"] / 100, np.nan)
        smap_l3 = np.where(smap[k] > 0, smap[k], np.nan)
        table = pd.DataFrame({"in_situ": warm, "smap_l3": smap_l3, "rain": index[k]}, index=time)
        table = table.dropna()
        table = table - table.rolling("35D", center=True, min_periods=10).mean()
        parts.append(table.rename_axis("time").reset_index().assign(sensor_id=place["Name"]))
    return pd.concat(parts, ignore_index=True)


@needs_data
def test_probes_smap_and_rain_agree_on_a_truth():
    """Three sources apart: a probe, a radiometer, rain gauges; SMAP holds more than it shows.

    SMAP's R with the truth is above its R with the probe, whose own error no longer counts, by
    the probe's R: r(probe, SMAP) = r(probe) r(SMAP).
    """
    sources = {"in_situ": ["in_situ"], "smap_l3": ["smap_l3_005"], "rain": ["nldas2_noah"]}
    table = real_triplets()
    found = metrics.triple_collocation(table, sources)
    assert found["sensor_id"].nunique() >= 20
    fine = found[found["status"] == "ok"]
    assert len(fine) > 0.7 * len(found)
    r = fine.pivot(index="sensor_id", columns="series", values="r")
    assert 0.6 < r["smap_l3"].median() < 0.85 and 0.7 < r["in_situ"].median() < 0.95
    plain = table.dropna().groupby("sensor_id")[["in_situ", "smap_l3"]].corr().iloc[0::2, 1]
    plain = plain.droplevel(1).reindex(r.index)
    np.testing.assert_allclose(r["in_situ"] * r["smap_l3"], plain, rtol=1e-6)
    in_units = fine[fine["series"] == "smap_l3"]["error_std_m3_m3"]
    assert 0.01 < in_units.median() < 0.04
