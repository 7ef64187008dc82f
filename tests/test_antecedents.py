"""Context in time: what a nowcast may know, what a gap leaves, and what a dry spell forgets."""

import numpy as np
import pandas as pd
import pytest

from soilkit.errors import ContractError
from soilkit.export import antecedents


def made_up(n_stations=3, n_windows=40, seed=0):
    """Samples and features of a few stations with gaps, a window every ten days."""
    rng = np.random.default_rng(seed)
    station, window = np.divmod(np.arange(n_stations * n_windows), n_windows)
    time = pd.Timestamp("2019-01-01") + pd.to_timedelta(10 * window, unit="D")
    samples = pd.DataFrame(
        {
            "sample_id": [f"{s}-{w}" for s, w in zip(station, window, strict=True)],
            "station_id": [f"N/{s}" for s in station],
            "time": time.astype("datetime64[us]"),
        }
    )
    features = pd.DataFrame(
        {"sample_id": samples["sample_id"], "smap_ssm": rng.uniform(2, 25, len(station))}
        | {name: rng.normal(-15, 2, len(station)) for name in ("sentinel1_VV", "sentinel1_VH")}
        | {f"sentinel2_{b}": rng.uniform(500, 2400, len(station)) for b in BANDS}
    )
    features.loc[window % 4 == 0, ["sentinel1_VV", "sentinel1_VH"]] = np.nan
    return samples, features


BANDS = ("B2", "B3", "B4", "B8", "B8A", "B11", "B12")


def test_the_future_moves_no_nowcast_column():
    samples, features = made_up()
    late = samples["time"] >= "2019-08-01"
    changed = features.copy()
    changed.loc[late, changed.columns[1:]] *= 3.0
    before, after = antecedents.widen(samples, features), antecedents.widen(samples, changed)
    early = ~late.to_numpy()
    now = before.names("nowcast")
    pd.testing.assert_frame_equal(before.features.loc[early, now], after.features.loc[early, now])
    told = before.columns.set_index("column")["kind"]
    moved = (before.features[early] != after.features[early]) & before.features[early].notna()
    assert set(told[moved.columns[moved.any()]]) == {"retrospective"}


def test_every_retrospective_column_does_look_ahead():
    """A column that is called retrospective but never moves with the future is misnamed."""
    samples, features = made_up()
    late = samples["time"] >= "2019-08-01"
    noise = np.random.default_rng(1).uniform(0.5, 1.5, (late.sum(), features.shape[1] - 1))
    changed = features.copy()
    changed.loc[late, changed.columns[1:]] *= noise
    before, after = antecedents.widen(samples, features), antecedents.widen(samples, changed)
    told = before.columns.set_index("column")["kind"]
    for name in told.index[told == "retrospective"]:
        assert not before.features.loc[~late, name].equals(after.features.loc[~late, name]), name


def test_a_station_does_not_know_the_others():
    samples, features = made_up()
    alone = samples["station_id"] == "N/1"
    together = antecedents.widen(samples, features).features[alone.to_numpy()]
    by_itself = antecedents.widen(samples[alone], features[alone]).features
    pd.testing.assert_frame_equal(together.reset_index(drop=True), by_itself)


def test_rows_may_come_in_any_order():
    samples, features = made_up()
    order = np.random.default_rng(2).permutation(len(samples))
    straight = antecedents.widen(samples, features).features
    mixed = antecedents.widen(samples.iloc[order], features.iloc[order]).features
    again = straight.iloc[order].reset_index(drop=True)
    pd.testing.assert_frame_equal(mixed, again, rtol=1e-9)


def test_a_gap_is_filled_by_what_was_known_before_it():
    """10 dB ten days ago and a gap now: the running mean is 10 dB, the change is unknown."""
    samples, features = made_up(n_stations=1, n_windows=2)
    features["sentinel1_VV"] = [10.0, np.nan]
    table = antecedents.widen(samples, features).features
    assert table["sentinel1_VV_past30"].tolist() == pytest.approx([10.0, 10.0])
    assert table["sentinel1_VV_previous"].isna().tolist() == [True, False]
    assert table["sentinel1_VV_change"].isna().all()


def test_running_means_halve_with_their_half_life():
    # Windows ten days apart, half-life ten days: (1 * 4 + 0.5 * 1) / 1.5 = 3.
    samples, features = made_up(n_stations=1, n_windows=2)
    features["smap_ssm"] = [1.0, 4.0]
    assert antecedents.widen(samples, features).features["smap_ssm_past10"].iloc[1] == 3.0


def test_standardised_series_have_mean_zero_and_deviation_one():
    table = antecedents.widen(*made_up()).features
    z = table["smap_ssm_z"].to_numpy().reshape(3, 40)
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=1), 1)


def test_a_cloud_hides_every_optical_band_and_no_other():
    samples, features = made_up()
    features.loc[5, "sentinel2_B2"] = 4000.0  # reflectance 0.40
    table = antecedents.widen(samples, features).features
    assert table.loc[5, ["sentinel2_B11", "sentinel2_NDVI", "sentinel2_STR"]].isna().all()
    assert np.isfinite(table.loc[5, ["smap_ssm", "sentinel1_VV"]].astype(float)).all()


def test_each_column_is_told_once_with_kind_and_meaning():
    widened = antecedents.widen(*made_up())
    assert widened.columns["column"].tolist() == widened.features.columns[1:].tolist()
    assert widened.columns["column"].is_unique
    assert (widened.columns["meaning"] != "").all()
    with pytest.raises(ContractError, match="found 'future'"):
        widened.names("future")
    samples, features = made_up()
    with pytest.raises(ContractError, match="one order"):
        antecedents.widen(samples, features.iloc[::-1])


def test_the_precipitation_index_forgets_a_fixed_share_a_day():
    # 8 mm, then three dry days at 0.5 a day, one of them unknown.
    index = antecedents.antecedent_precipitation([8.0, 0.0, np.nan, 0.0], retention=0.5)
    assert index.tolist() == [8.0, 4.0, 2.0, 1.0]
