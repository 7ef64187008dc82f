"""Clusters of extents: told by what training extents are like, blended without a jump."""

import numpy as np
import pandas as pd
import pytest

from soilkit.errors import ContractError
from soilkit.models.deepsoil import clusters
from soilkit.models.deepsoil.extents import CHANNELS, Maps

DATED = np.array(
    [c.name.startswith(("gridmet", "modis", "SMAP")) or k < 5 for k, c in enumerate(CHANNELS)]
)
TIMES = np.array(["2019-01-15", "2019-07-15"], "datetime64[us]")


class Extents:
    """Extents of a few pixels: soils by name, half of the rest missing; no cube behind them."""

    channels = CHANNELS

    def __init__(self, kinds, *, seed=0, readings=None):
        rng = np.random.default_rng(seed)
        self.stores = {f"{k:014d}": kind for k, kind in enumerate(kinds)}
        self.maps = {key: self.made(kind, rng) for key, kind in self.stores.items()}
        n_probes = [1] * len(kinds) if readings is None else readings
        self.tiles = pd.DataFrame([
            {"extent": key, "step": step, "time": time, "n_probes": n}
            for key, n in zip(self.stores, n_probes, strict=True) for step, time in enumerate(TIMES)
        ])  # fmt: skip

    def made(self, kind, rng):
        static = np.full((int((~DATED).sum()), 4, 4), -1.0)
        for k, name in enumerate(c.name for c, d in zip(CHANNELS, DATED, strict=True) if not d):
            if name.startswith(("polaris", "gnatsgo")):
                static[k] = {"sand": 0.2, "loam": 0.5, "clay": 0.8}[kind] + rng.normal(
                    0, 0.02, (4, 4)
                )
            elif name.startswith("NLCD"):
                static[k] = name == ("NLCD 82" if rng.uniform() < 0.5 else "NLCD 71")
        dated = np.full((2, int(DATED.sum()), 4, 4), -1.0)
        smap = [c.name for c, d in zip(CHANNELS, DATED, strict=True) if d].index("SMAP")
        dated[:, smap] = {"sand": 0.2, "loam": 0.4, "clay": 0.6}[kind]
        return Maps(static, dated, DATED, np.zeros((2, int(DATED.sum()))), None)

    def extent(self, key):
        return {"maps": self.maps[key]}


KINDS = ["sand"] * 8 + ["loam"] * 8 + ["clay"] * 8


@pytest.fixture(scope="module")
def data():
    return Extents(KINDS)


def test_silhouettes_find_how_many_soils_there_are(data):
    found = clusters.fit(data, data.stores)
    labels = found.nearest(data).reshape(-1, 2)
    assert (labels[:, 0] == labels[:, 1]).all()
    parts = pd.Series(labels[:, 0]).groupby(KINDS).nunique()
    assert (parts == 1).all() or found.n > 3  # never two soils in one cluster
    together = pd.crosstab(pd.Series(labels[:, 0]), pd.Series(KINDS)).to_numpy()
    assert ((together > 0).sum(axis=1) == 1).all()
    assert found.n == max(found.silhouettes, key=found.silhouettes.get)


def test_only_training_extents_are_looked_at(data):
    """Another value in an extent of the test part changes nothing."""
    train = list(data.stores)[:20]
    found = clusters.fit(data, train, numbers=[3])
    other = Extents(KINDS)
    for key in list(other.stores)[20:]:
        other.maps[key].static[:] = 0.99
    again = clusters.fit(other, train, numbers=[3])
    np.testing.assert_array_equal(found.centres, again.centres)
    np.testing.assert_array_equal(found.middle, again.middle)


def test_a_new_extent_goes_to_the_nearest_cluster(data):
    found = clusters.fit(data, data.stores, numbers=[3])
    new = Extents(["clay", "sand"], seed=9)
    of_new, of_old = found.nearest(new)[::2], found.nearest(data)[::2]
    assert of_new[0] == of_old[-1] and of_new[1] == of_old[0]


def test_an_extent_seen_in_one_season_is_placed_by_what_is_known(data):
    found = clusters.fit(data, data.stores, numbers=[3])
    table = clusters.features_of(data)
    assert table["SMAP spring"].isna().all() and table["SMAP summer"].notna().all()
    blind = table.assign(**{"SMAP winter": np.nan, "SMAP summer": np.nan})
    np.testing.assert_array_equal(
        found.distances(blind).argmin(axis=1), found.distances(table).argmin(axis=1)
    )
    with pytest.raises(ContractError, match="24 extents have none of the features"):
        found.distances(table * np.nan)


def test_seasons_are_those_of_their_months():
    # December to February are winter
    months = np.arange("2019-01", "2020-01", dtype="datetime64[M]").astype("datetime64[us]")
    maps = Extents(["loam"]).extent("0" * 14)["maps"]
    smap = [c.name for c, d in zip(CHANNELS, DATED, strict=True) if d].index("SMAP")
    dated = np.full((12, int(DATED.sum()), 1, 1), -1.0)
    dated[:, smap, 0, 0] = np.arange(12) / 100
    yearly = Maps(maps.static, dated, DATED, np.zeros((12, 1)), None)
    row = clusters.features_of_maps(yearly, CHANNELS, times=months)
    means = [row[f"SMAP {season}"] for season in clusters.SEASONS]
    assert means == pytest.approx([(11 + 0 + 1) / 300, 0.03, 0.06, 0.09])


def test_shares_have_no_jump_across_the_border_of_two_clusters(data):
    """On the way from one centre to the next they change by little steps, and are equal midway."""
    found = clusters.fit(data, data.stores, numbers=[3])
    table = clusters.features_of(data)
    first, last = table.iloc[0].fillna(0), table.iloc[-1].fillna(0)
    steps = np.linspace(0, 1, 2001)
    path = pd.DataFrame([first + (last - first) * step for step in steps[::10]])
    shares = found.shares_of(path)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert np.abs(np.diff(shares, axis=0)).max() < 0.1
    assert shares[0].max() == shares[-1].max() == 1
    assert shares[0].argmax() != shares[-1].argmax()
    both = np.sort(shares, axis=1)
    assert both[:, -2].max() > 0.45  # somewhere two are as good as equal
    np.testing.assert_array_equal(shares.argmax(axis=1), found.distances(path).argmin(axis=1))


def test_pixels_between_tiles_are_blended_without_a_seam():
    shares = np.zeros((3, 4, 2))
    shares[:, :2, 0] = shares[:, 2:, 1] = 1
    drawn = clusters.on_pixels(shares, 64)
    assert drawn.shape == (192, 256, 2)
    np.testing.assert_allclose(drawn.sum(axis=2), 1)
    assert np.abs(np.diff(drawn, axis=1)).max() <= 1 / 64 + 1e-9
    assert drawn[0, 0, 0] == drawn[0, -1, 1] == 1


def test_a_cluster_without_stations_is_named(caplog):
    data = Extents(KINDS, readings=[1] * 16 + [0] * 8)
    found = clusters.fit(data, data.stores, numbers=[3])
    bare = found.nearest(data)[-1]
    assert found.stations[int(bare)] == 0 and sum(found.stations.values()) == 16
    assert f"cluster {bare} has no station" in caplog.text


def test_groups_of_features_weigh_alike(data):
    table = clusters.features_of(data).dropna(axis=1, how="all")
    scaled = table * clusters._weights(table)
    for group in ("polaris", "gnatsgo", "SMAP", "NLCD"):
        columns = [name for name in table if name.startswith(group)]
        assert scaled[columns].var(ddof=0).sum() == pytest.approx(1)


def test_too_few_extents_and_unknown_ones_are_named(data):
    with pytest.raises(ContractError, match="3 training extents make no 2 clusters"):
        clusters.fit(data, list(data.stores)[:3])
    with pytest.raises(ContractError, match="no extent 99"):
        clusters.fit(data, ["99"] * 2 + list(data.stores))


def test_clusters_survive_a_checkpoint(data):
    found = clusters.fit(data, data.stores, numbers=[3])
    again = clusters.Clusters.of(found.plain())
    np.testing.assert_array_equal(again.shares(data), found.shares(data))
    assert again.stations == found.stations and again.silhouettes == found.silhouettes
