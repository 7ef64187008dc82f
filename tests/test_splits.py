"""What a split keeps apart, and that it says so."""

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod
from sklearn.model_selection import GroupKFold, KFold

from soilkit import grids
from soilkit.errors import ContractError, UnknownNameError
from soilkit.metrics import splits
from soilkit.metrics.splits.folds import nearest_km, overlapping_chips

SPLITS = {
    "station": splits.by_station, "sensor": splits.by_sensor, "block": splits.by_block,
    "network": splits.by_network, "row": splits.by_row,
}  # fmt: skip


def stations_at(*places, networks=None, sensors_each=1):
    """A stations table with ``sensors_each`` probes at every (latitude, longitude)."""
    rows = [
        {
            "sensor_id": f"N__S{i}__{k}", "station_id": f"N__S{i}", "latitude": lat,
            "longitude": lon, "network": networks[i] if networks else "N",
        }
        for i, (lat, lon) in enumerate(places)
        for k in range(sensors_each)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def scattered(n, *, seed=0, **options):
    rng = np.random.default_rng(seed)
    places = zip(rng.uniform(32, 44, n), rng.uniform(-104, -92, n), strict=True)
    return stations_at(*places, **options)


def samples_of(stations, each=10):
    rows = stations[["sensor_id", "station_id"]]
    samples = rows.loc[rows.index.repeat(each)].reset_index(drop=True)
    return samples.assign(sample_id=[f"x{i}" for i in range(len(samples))])


def labels_by_station(labels, samples):
    table = labels.groupby(samples["station_id"]).unique()
    assert (table.str.len() == 1).all(), "a station stands on two sides"
    return table.str[0]


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_labels_every_sample_and_follows_the_seed(name):
    """Aligned with the samples' own index; the same seed gives the same labels."""
    stations = scattered(60, networks=[f"N{i % 7}" for i in range(60)])
    samples = samples_of(stations).set_index("sample_id", drop=False)
    labels = SPLITS[name](samples, stations, seed=1)
    assert labels.index.equals(samples.index)
    assert set(labels) == {"train", "validation", "test"}
    assert labels.equals(SPLITS[name](samples, stations, seed=1))
    assert not labels.equals(SPLITS[name](samples, stations, seed=2))


def test_the_papers_shares_are_of_stations():
    """60:20:20 of 100 lone stations are 60, 20 and 20 stations."""
    stations = scattered(100)
    samples = samples_of(stations)
    counts = labels_by_station(splits.by_station(samples, stations), samples).value_counts()
    assert counts.to_dict() == {"train": 60, "validation": 20, "test": 20}
    halves = splits.by_station(samples, stations, fractions=(0.5, 0.0, 0.5))
    assert labels_by_station(halves, samples).value_counts().to_dict() == {"train": 50, "test": 50}


def test_labels_do_not_hang_on_which_samples_survived():
    """Clouds that drop half of the samples move no station to the other side."""
    stations = scattered(40)
    samples = samples_of(stations)
    labels = splits.by_station(samples, stations, seed=3)
    fewer = samples.sample(frac=0.3, random_state=0)
    assert splits.by_station(fewer, stations, seed=3).equals(labels.loc[fewer.index])
    shuffled = splits.by_block(samples, stations.sample(frac=1, random_state=1), seed=3)
    assert shuffled.equals(splits.by_block(samples, stations, seed=3))


def test_overlapping_chips_share_a_group_and_touching_ones_do_not():
    """2.4 km apart two 2.56 km chips overlap; 2.7 km apart they do not, though a diagonal would."""
    # One degree of latitude is 110.9 km at 35 N.
    near, far = 2.4 / 110.9, 2.7 / 110.9
    groups = splits.chip_groups(stations_at((35, -99), (35 + near, -99), (35 - far, -99)))
    assert groups["N__S0"] == groups["N__S1"] != groups["N__S2"]


def test_groups_agree_with_every_pair_of_boxes():
    """A slow look at all pairs of chip grids finds the same groups."""
    rng = np.random.default_rng(5)
    places = zip(rng.uniform(35, 35.3, 60), rng.uniform(-99, -98.7, 60), strict=True)
    stations = stations_at(*places)
    boxes = [
        grids.chip_grid(lat, lon, size_px=256, pixel_size_m=10).bounds_m
        for lat, lon in zip(stations.latitude, stations.longitude, strict=True)
    ]
    slow = list(range(60))
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes):
            if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]:
                slow = [slow[i] if group == slow[j] else group for group in slow]
    fast = splits.chip_groups(stations).to_numpy()
    assert 1 < len(set(slow)) < 60
    same = np.equal.outer(fast, fast)
    assert (same == np.equal.outer(slow, slow)).all()


def test_neighbours_across_a_utm_border_share_a_group():
    """-96 degrees parts zones 14 and 15; ground does not know."""
    groups = splits.chip_groups(stations_at((35, -96.005), (35, -95.995)))
    assert groups.nunique() == 1


@pytest.mark.parametrize("split", [splits.by_station, splits.by_block])
def test_no_pixel_stands_on_two_sides(split):
    """A dense network in a corner of four blocks stays whole, whatever the seed."""
    rng = np.random.default_rng(0)
    dense = list(zip(rng.normal(36, 0.01, 20), rng.normal(-98, 0.01, 20), strict=True))
    far = scattered(40)
    far = far.assign(station_id="far" + far["station_id"], sensor_id="far" + far["sensor_id"])
    stations = pd.concat([stations_at(*dense), far], ignore_index=True)
    samples = samples_of(stations)
    groups = samples["station_id"].map(splits.chip_groups(stations))
    for seed in range(10):
        labels = split(samples, stations, seed=seed)
        assert labels.groupby(groups).nunique().max() == 1
        assert labels.nunique() == 3


def test_the_papers_sensor_split_parts_replicates_and_says_so():
    """Two probes in one pit fall on both sides of some pits."""
    stations = scattered(50, sensors_each=2)
    samples = samples_of(stations)
    labels = splits.by_sensor(samples, stations)
    assert labels.groupby(samples["station_id"]).nunique().max() > 1
    assert labels.name == "by_sensor (the paper's)"
    assert splits.by_row(samples).name == "by_row (leaky)"


def test_blocks_are_floors_of_latitude_and_longitude():
    """Negative longitudes round away from zero; a border belongs to the block above."""
    stations = stations_at((35.9, -98.1), (36.0, -98.0), (36.1, -97.9))
    assert splits.block_ids(stations).tolist() == ["17_-50", "18_-49", "18_-49"]
    assert splits.block_ids(stations, size_deg=1).tolist() == ["35_-99", "36_-98", "36_-98"]


def test_a_block_stays_whole():
    """Stations far apart in one block share its label; a larger block holds more of them."""
    stations = scattered(120)
    samples = samples_of(stations, each=2)
    for size in (2, 4):
        labels = splits.by_block(samples, stations, size_deg=size)
        blocks = samples["station_id"].map(
            splits.block_ids(stations, size_deg=size).set_axis(stations["station_id"])
        )
        # Only stations whose chips cross an edge may leave their block; here none do.
        assert labels.groupby(blocks).nunique().max() == 1


def test_folds_hold_whole_groups_and_each_about_as_many():
    """Five folds of whole blocks; scikit-learn deals them out alike, groups and single rows."""
    stations = scattered(200)
    blocks = splits.block_ids(stations).to_numpy()
    held_out = splits.folds(blocks, seed=1)
    assert pd.Series(held_out).groupby(blocks).nunique().max() == 1
    n_blocks = pd.Series(blocks).groupby(held_out).nunique()
    assert len(n_blocks) == 5 and n_blocks.max() - n_blocks.min() <= 1
    for maker, groups in ((GroupKFold, blocks), (KFold, None)):
        theirs = maker(5, shuffle=True, random_state=1).split(blocks, groups=groups)
        ours = splits.folds(np.arange(200) if groups is None else groups, seed=1)
        for number, (_, test) in enumerate(theirs):
            assert np.flatnonzero(ours == number).tolist() == test.tolist()
    assert splits.folds(["a", "b", "b"], n_folds=99).max() == 1
    with pytest.raises(ContractError, match="two groups or more, found 1 in 3 rows"):
        splits.folds(["a"] * 3)


def test_a_network_left_out_is_tested_alone():
    """No station of it trains, and no other station tests unless its chip overlaps one."""
    stations = scattered(60, networks=["A", "B", "C"] * 20)
    beside = stations.iloc[[0]].assign(station_id="N__near", sensor_id="N__near__0", network="B")
    stations = pd.concat([stations, beside], ignore_index=True)
    samples = samples_of(stations)
    labels = splits.by_network(samples, stations, held_out="A")
    network = samples["station_id"].map(
        stations.drop_duplicates("station_id").set_index("station_id")["network"]
    )
    assert set(labels[network == "A"]) == {"test"}
    assert set(labels[samples["station_id"] == "N__near"]) == {"test"}
    others = labels[(network != "A") & (samples["station_id"] != "N__near")]
    assert set(others) == {"train", "validation"}
    with pytest.raises(UnknownNameError, match="there are A, B, C"):
        splits.by_network(samples, stations, held_out="D")


def test_stations_without_a_network_are_one_unnamed_network():
    """Categories with a gap draw like names: no unit is missing, none is compared with a text."""
    stations = scattered(60, networks=["A", "B", None] * 20).astype({"network": "category"})
    labels = splits.by_network(samples_of(stations), stations)
    named = stations["network"].astype("str").fillna("nan")
    units = samples_of(stations)["station_id"].map(named.set_axis(stations["station_id"])[
        lambda table: ~table.index.duplicated()
    ])  # fmt: skip
    assert labels.groupby(units).nunique().tolist() == [1, 1, 1]


def test_wrong_shares_and_lost_stations_are_refused():
    """Shares sum to one; samples of unknown stations have no label."""
    stations = scattered(10)
    samples = samples_of(stations)
    with pytest.raises(ContractError, match="sum to 1"):
        splits.by_station(samples, stations, fractions=(0.6, 0.2, 0.3))
    with pytest.raises(ContractError, match="stand in no row of the stations table"):
        splits.by_station(samples, stations.iloc[:5])
    with pytest.raises(ContractError, match="positive size"):
        splits.by_block(samples, stations, size_deg=0)


def test_categorical_ids_are_welcome():
    """Long tables carry categories; labels stay plain text."""
    stations = scattered(20)
    samples = samples_of(stations)
    plain = splits.by_station(samples, stations)
    coded = splits.by_station(samples.astype({"station_id": "category"}), stations)
    assert coded.tolist() == plain.tolist()
    assert not isinstance(coded.dtype, pd.CategoricalDtype)


def test_the_nearest_of_many_is_the_nearest_of_all():
    """A search among few candidates on the ellipsoid finds what all pairs of geodesics find."""
    rng = np.random.default_rng(2)
    lon, lat = rng.uniform(-180, 180, 300), rng.uniform(-60, 75, 300)
    places = pd.DataFrame({"longitude": lon, "latitude": lat})
    here, there = places[:100], places[100:]
    i, j = np.repeat(np.arange(100), 200), np.tile(np.arange(200), 100)
    _, _, metres = Geod(ellps="WGS84").inv(
        here["longitude"].to_numpy()[i], here["latitude"].to_numpy()[i],
        there["longitude"].to_numpy()[j], there["latitude"].to_numpy()[j],
    )  # fmt: skip
    slow = metres.reshape(100, 200).min(axis=1) / 1000
    np.testing.assert_allclose(nearest_km(here, there), slow, rtol=1e-12)


def test_chips_that_touch_the_date_line_overlap():
    """180 and -180 degrees are one meridian."""
    pairs = overlapping_chips(stations_at((10, 179.999), (10, -179.999), (10, 0)))
    assert pairs.tolist() == [[0, 1]]
