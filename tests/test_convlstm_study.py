"""A year of SMAP ahead: predictors, members, blend, widths and filter on a few made-up pixels."""

import os
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks import convlstm_study, depths, smap_members, smap_year
from tests.benchmarks.smap_members import Inputs, Pixels, Recipe
from tests.benchmarks.smap_year import Blended, YearAhead, kalman

DATA = Path(os.environ.get("SOILKIT_TEST_DATA") or "no-data")
needs_data = pytest.mark.skipif(
    not (DATA / smap_members.ARCHIVE).is_file(), reason="SOILKIT_TEST_DATA holds no SMAP archive"
)
N_PIXELS, N_DAYS = 24, 120


def made_up(seed=0):
    """Pixels in twelve blocks whose moisture is what the rain of the last days left, seen often."""
    rng = np.random.default_rng(seed)
    shape = (2 * N_DAYS, N_PIXELS)
    rain = rng.gamma(0.3, 0.5, shape)
    season = 10 * np.sin(2 * np.pi * np.arange(2 * N_DAYS) / N_DAYS)[:, None] + np.zeros(shape)
    forcings = [rain, 300 + rng.normal(0, 5, shape), 200 + 5 * season, 285 + season]
    forcings += [np.full(shape, 0.006) + rng.normal(0, 1e-4, shape), *rng.normal(0, 3, (2, *shape))]
    at = np.arange(N_PIXELS)
    places = pd.DataFrame(
        {"latitude": 31.0 + 6 * (at // 8), "longitude": -119.0 + 6 * (at // 2 % 4)}
    )
    pixels = Pixels(
        places, np.stack(forcings), rng.random((N_PIXELS, 12)), np.zeros(shape).T, N_DAYS
    )
    wet = smap_members.weather_of(pixels)["water_past2"].T
    smap = 0.1 + 0.02 * wet + 0.003 * at[:, None] + rng.normal(0, 0.005, shape[::-1])
    return pixels._replace(smap_m3_m3=np.where(rng.random(smap.shape) < 0.85, smap, np.nan))


def test_a_day_knows_no_later_weather():
    """Weather after a day of the second year changes nothing that is known on that day."""
    pixels, day = made_up(), N_DAYS + 30
    later = pixels.forcings.copy()
    later[:, day + 1 :] += 1.0
    before = smap_members.weather_of(pixels)
    after = smap_members.weather_of(pixels._replace(forcings=later))
    for name, values in before.items():
        assert np.array_equal(values[: day + 1], after[name][: day + 1]), name
    assert not np.allclose(before["bucket_15"], after["bucket_15"])


def test_a_mean_of_the_past_halves_in_its_half_life():
    pixels = made_up()
    forcings = pixels.forcings.copy()
    forcings[0] = 0.0
    forcings[0, N_DAYS] = 1.0  # mm h-1 through the first day of the second year
    wet = smap_members.weather_of(pixels._replace(forcings=forcings))["water_past4"][N_DAYS:]
    assert wet[4] == pytest.approx(wet[0] / 2)
    assert wet[0] == pytest.approx(24 * (1 - 0.5 ** (1 / 4)))


def test_folds_hide_every_month_of_every_block_once():
    pixels = made_up()
    folds = pixels.folds()
    assert [(folds == k).mean() for k in range(3)] == pytest.approx([1 / 3] * 3)
    for block in set(pixels.blocks):
        rows = folds[pixels.blocks == block]
        assert (rows == rows[0]).all()  # the pixels of a block hide the same days
    assert len({tuple(row) for row in folds}) == 3


def test_the_target_holds_the_first_year_alone():
    """Neither target nor statics change with what SMAP saw in the second year."""
    pixels = made_up()
    other = pixels.smap_m3_m3.copy()
    other[:, N_DAYS:] = 0.5
    a, b = Inputs(pixels), Inputs(pixels._replace(smap_m3_m3=other))
    known = np.isfinite(a.target)
    assert a.target.shape == (N_PIXELS, N_DAYS)
    assert np.array_equal(a.target, b.target, equal_nan=True)
    assert np.array_equal(a.statics(known), b.statics(known))


@pytest.mark.parametrize(("days", "batch", "epochs"), [(1, 64, 6), (20, 16, 20)])
def test_a_network_learns_what_the_rain_leaves_and_looks_ahead_never(days, batch, epochs):
    pixels = made_up()
    inputs, recipe = Inputs(pixels), Recipe(16, days, batch, epochs, learning_rate=0.01)
    known = np.isfinite(inputs.target)
    predicted = smap_members.network(inputs, known, seed=0, recipe=recipe)
    second = pixels.smap_m3_m3[:, N_DAYS:]
    r = smap_year.pixel_scores(predicted[:, N_DAYS:], second)["r"]
    assert r.median() > 0.8

    later = pixels.forcings.copy()
    later[:, N_DAYS + 30 :] *= 1.01
    changed = Inputs(pixels._replace(forcings=later))
    again = smap_members.network(changed, known, seed=0, recipe=recipe)
    assert np.array_equal(predicted[:, : N_DAYS + 30], again[:, : N_DAYS + 30])
    assert not np.array_equal(predicted, again)


def test_windows_hold_a_known_day():
    """A window of one day is a known day; no batch is without anything to learn."""
    known = np.zeros((3, 30), np.float32)
    known[1, [4, 17]] = 1
    tables = {k: smap_members.torch.as_tensor(known) for k in ("weight", "target", "static")}
    tables["weather"] = tables["weight"][..., None]
    for days in (1, 10):
        windows = smap_members.Windows(tables, Recipe(4, days, 8, 1))
        for batch in windows:
            assert set(batch["pixel"].tolist()) == {1}
            assert (batch["weight"].sum(dim=1) > 0).all()


def test_the_filter_is_the_conditional_mean_of_a_gaussian_process():
    """Solved as one linear system: covariance exp(-dt / memory), noise on what is seen."""
    rng, memory_days, noise = np.random.default_rng(1), 5.0, 0.4
    values = np.where(rng.random((2, 25)) < 0.5, rng.normal(size=(2, 25)), np.nan)
    states = kalman(values, memory_days=memory_days, noise=noise)
    days = np.arange(25)
    covariance = np.exp(-np.abs(days[:, None] - days) / memory_days)
    for row, series in enumerate(values):
        for t in (0, 11, 24):
            for given, state in ((days < t, states.before), (days >= 0, states.smoothed)):
                seen = given & np.isfinite(series)
                matrix = covariance[np.ix_(seen, seen)] + noise * np.eye(seen.sum())
                weights = np.linalg.solve(matrix, covariance[seen, t])
                assert state[row, t] == pytest.approx(weights @ series[seen], abs=1e-9)


def test_pixel_scores_are_those_of_the_pairs():
    rng = np.random.default_rng(2)
    observed, predicted = rng.normal(0.2, 0.05, (2, 3, 40))
    observed[0, 5:] = np.nan  # five pairs are no score
    scores = smap_year.pixel_scores(predicted, observed)
    assert np.isnan(scores["r"][0])
    assert scores["r"][1] == pytest.approx(np.corrcoef(observed[1], predicted[1])[0, 1])
    assert scores["ubrmse_m3_m3"][2] == pytest.approx((predicted[2] - observed[2]).std())


def test_widths_hold_nine_in_ten_where_errors_come_and_go():
    """Errors of a third of the pixels are three times as large: widths know, and hold 90 %."""
    rng, shape = np.random.default_rng(3), (N_PIXELS, 2 * N_DAYS)
    spread = np.where(np.arange(N_PIXELS) % 3 == 0, 0.03, 0.01)[:, None]
    smap = 0.2 + spread * rng.normal(size=shape)
    inputs, whole = Inputs(made_up()._replace(smap_m3_m3=smap)), np.full(shape, 0.2)
    hidden, widths = smap_year.half_widths(inputs, Blended(whole[:, :N_DAYS], whole, {}))
    held = smap_year.coverage_of(hidden, smap[:, :N_DAYS] - 0.2)
    assert held.mean() == pytest.approx(0.9, abs=0.02)
    new = smap_year.coverage_of(widths[:, N_DAYS:], smap[:, N_DAYS:] - 0.2)
    assert new.mean() == pytest.approx(0.9, abs=0.04)
    assert np.median(widths[::3]) > 2 * np.median(widths[1::3])


def archive_of(pixels, folder):
    """The pixels as the archive that ``read_pixels`` reads, and the peers' files."""
    path = folder / smap_members.ARCHIVE
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:

        def put(name, values):
            text = pd.DataFrame(values).fillna(-9999).to_csv(header=False, index=False)
            archive.writestr(f"CONUSv4f1/{name}.csv", text)

        for year, of in zip((2015, 2016), (slice(N_DAYS), slice(N_DAYS, None)), strict=True):
            for name, values in zip(smap_members.FORCINGS, pixels.forcings, strict=True):
                put(f"{year}/{name}", values[of].T)
            put(f"{year}/SMAP_AM", pixels.smap_m3_m3[:, of])
        for i, name in enumerate(smap_members.CONSTANTS):
            put(f"const/{name}", pixels.constants[:, i])
        put("crd", pixels.places)
    for names in smap_year.PEERS.values():
        for name in filter(None, names):
            peer = folder / "hydrodl_predictions" / name
            peer.parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(4).normal(size=(N_PIXELS, N_DAYS))
            pd.DataFrame(values).to_csv(peer, header=False, index=False)


def test_the_archive_is_read_back(tmp_path):
    pixels = made_up()
    archive_of(pixels, tmp_path)
    read = smap_members.read_pixels(tmp_path / smap_members.ARCHIVE)
    assert read.n_train == N_DAYS
    assert np.allclose(read.smap_m3_m3, pixels.smap_m3_m3, equal_nan=True)
    assert np.allclose(read.forcings, pixels.forcings)
    assert np.allclose(read.constants, pixels.constants)


def test_a_year_ahead_leaves_its_tables_and_is_not_run_twice(tmp_path, monkeypatch):
    archive_of(made_up(), tmp_path / "data")
    small = {name: replace(r, width=4, days=min(r.days, 9), batch=16, epochs=1)
             for name, r in smap_members.RECIPES.items()}  # fmt: skip
    monkeypatch.setattr(smap_year, "RECIPES", small)
    monkeypatch.setattr(smap_year, "TRIALS", smap_year.TRIALS[:3])
    learn = smap_year.gap_filter.train_filter
    monkeypatch.setattr(smap_year.gap_filter, "train_filter", partial(learn, steps=2))
    boosted = smap_members.boosted
    monkeypatch.setattr(smap_members, "boosted", lambda n, seed: boosted(10, seed))
    out = tmp_path / "out"
    words = [str(out), "--data", str(tmp_path / "data"), "--workers", "0"]
    smap_year.main(words)

    table = pd.read_csv(out / "smap_nldas.csv").set_index(["model", "split", "metric"]).sort_index()
    ours = table.loc[(smap_year.OURS, smap_year.TEST)]
    assert ours.loc["r", "lower"] <= ours.loc["r", "value"] <= ours.loc["r", "upper"]
    assert ours.loc["r", "n_blocks"] == 12
    for name in (smap_year.PLAIN, *smap_year.PEERS):
        assert table.loc[(name, smap_year.TEST, "r"), "n_pixels"] == N_PIXELS
        assert (f"ours less {name}", smap_year.TEST, "ubrmse_m3_m3") in table.index
    gaps = pd.read_csv(out / "gaps.csv").query("metric == 'rmse_m3_m3'").set_index("fill")["value"]
    assert gaps["ours + Kalman smoother"] < gaps["the latest value"]

    study = YearAhead(tmp_path / "data", tmp_path / "work" / "out")
    assert not study.due()


# The subsurface, and a window ahead.


def test_the_exponential_filter_is_a_weighted_mean_of_the_past():
    """The recursion of Albergel et al. (2008) is sum s exp(-age / T) / sum exp(-age / T)."""
    rng = np.random.default_rng(5)
    days, values = np.cumsum(rng.integers(1, 5, 30)), rng.random(30)
    index = depths.exponential_filter(values, days, memory_days=6.0)
    for n in (0, 7, 29):
        weights = np.exp(-(days[n] - days[: n + 1]) / 6.0)
        assert index[n] == pytest.approx(weights @ values[: n + 1] / weights.sum())


def two_depths(memory_days=10, n_stations=20, n_days=200):
    """Stations in blocks of their own whose depth is the filtered surface, and a little noise."""
    rng, rows = np.random.default_rng(6), []
    days = np.arange(n_days)
    for i in range(n_stations):
        surface = 0.2 + 0.05 * rng.normal(size=n_days)
        kept = [
            depths.exponential_filter(surface, days, memory_days=t) for t in depths.MEMORIES_DAYS
        ]
        deep = kept[depths.MEMORIES_DAYS.index(memory_days)] + rng.normal(0, 0.002, n_days)
        deep[::7] = np.nan
        rows.append(
            (np.full(n_days, i), np.full(n_days, i // 2), days, surface, deep, np.stack(kept, 1))
        )
    return depths.Depths(*(np.concatenate(part) for part in zip(*rows, strict=True)))


def test_the_memory_of_training_stations_is_found_at_unseen_ones():
    table = depths.below(two_depths()).set_index(["model", "metric"])
    r = table["value"].xs("r", level="metric")
    assert r[depths.CHOSEN] == pytest.approx(r[depths.IN_SAMPLE])
    assert r[depths.CHOSEN] > 0.95 > r["surface itself"]
    assert r[depths.LINE] == pytest.approx(r[depths.CHOSEN], abs=0.02)
    assert (table["n_blocks"] == 10).all()


def test_a_field_that_returns_to_its_mean_is_foreseen_better_than_by_persistence():
    """x' = x / 2 + noise: the best error is the noise's, persistence adds half of x."""
    rng, cube = np.random.default_rng(7), np.zeros((6, 40, 2, 3, 3))
    for t in range(1, 40):
        cube[:, t, -1] = cube[:, t - 1, -1] / 2 + rng.normal(size=(6, 3, 3))
    cube[:, ::4, 0] = np.nan
    value = depths.ahead(cube).set_index("model")["rmse_mm"]
    assert value["ridge on SMAP's past"] == pytest.approx(1.0, abs=0.06)
    assert value[depths.PERSISTENCE] == pytest.approx(np.sqrt(1 + 0.25 / 0.75), abs=0.06)


def test_kriging_is_exact_where_cells_are_known_and_falls_to_the_mean_far_away():
    given = np.full((9, 20, 20), np.nan)
    given[:4, :6, :6] = np.random.default_rng(8).normal(size=(4, 6, 6))
    at = np.array([[2, 3, 3], [8, 19, 19]])
    values = depths.kriged(given, at, days=1.0, cells=1.0, noise=1e-9)
    assert values == pytest.approx([given[2, 3, 3], 0.0], abs=1e-3)


def test_a_moving_field_is_filled_better_in_space_and_time(monkeypatch):
    """A wave that moves four cells a day: its neighbours know more than its own next days."""
    monkeypatch.setattr(depths, "N_BOXES", 8)
    monkeypatch.setattr(depths, "BOX", (2, 4, 4))
    day, row, col = np.meshgrid(np.arange(12), np.arange(20), np.arange(20), indexing="ij")
    cube = 0.2 + 0.05 * np.sin((row + col + 4 * day) / 4)
    table = depths.filled_boxes(cube).set_index("model")
    assert table.loc[depths.KRIGED, "rmse_m3_m3"] < 0.6 * table.loc[depths.LINEAR, "rmse_m3_m3"]
    step = table.loc[f"{depths.KRIGED} less {depths.LINEAR}"]
    assert step["lower"] < step["rmse_m3_m3"] < step["upper"] < 0


@needs_data
def test_the_published_scores_are_found_again():
    """hydroDL's medians over the pixels that have a score, and SMAP's share of missing days."""
    pixels = smap_members.read_pixels(DATA / smap_members.ARCHIVE)
    assert pixels.smap_m3_m3.shape == (412, 731)
    assert np.isnan(pixels.smap_m3_m3).mean() == pytest.approx(0.58, abs=0.01)
    second = pixels.smap_m3_m3[:, pixels.n_train :]
    peers = smap_year.read_peers(DATA / "hydrodl_predictions")
    expected = ((0.841, 0.0332, 0.0294), (0.855, 0.0307, 0.0281))
    for (moisture, _), (r, rmse, ubrmse) in zip(peers.values(), expected, strict=True):
        medians = smap_year.pixel_scores(moisture, second).median()
        assert medians["r"] == pytest.approx(r, abs=1e-3)
        assert medians["rmse_m3_m3"] == pytest.approx(rmse, abs=1e-4)
        assert medians["ubrmse_m3_m3"] == pytest.approx(ubrmse, abs=1e-4)


# What the paper leaves open, on tiles of the synthetic world.


@pytest.fixture(scope="module")
def made_up_tiles():
    """Tiles of made-up teachers, and a truth that is a line of both, which probes read."""
    rng, n = np.random.default_rng(9), convlstm_study.N_TILES
    days = convlstm_study.Tiles({}).days
    level, timing = (convlstm_study.DEPTHS["surface"][k] for k in (0, 1))
    shape = (n, len(days), 6, 6)
    dca, noah = rng.normal(0.2, 0.05, shape), rng.normal(25, 5, shape)
    cells = rng.integers(0, 6, (n, 2, convlstm_study.N_PROBES))
    at = np.arange(n)[:, None], slice(None), cells[:, 0], cells[:, 1]
    truth = 0.05 + 0.5 * dca + 0.3 * noah / 100
    layers = {timing: dca, level: noah, "probe cells": cells}
    layers["probes surface"] = truth[at].swapaxes(1, 2)
    return convlstm_study.Tiles(layers), truth.swapaxes(0, 1)


def test_every_block_is_tested_once_and_never_trained_on_then():
    tiles = convlstm_study.Tiles({})
    assert len(set(tiles.blocks)) == convlstm_study.N_TILES == 25
    folds = np.array([tiles.fold(seed) for seed in range(convlstm_study.N_FOLDS)])
    assert ((folds == "test").sum(axis=0) == 1).all()
    assert ((folds == "train").sum(axis=1) == 15).all()


def test_the_merge_finds_the_weights_of_training_probes(made_up_tiles):
    tiles, truth = made_up_tiles
    level, timing = (tiles.teacher(convlstm_study.DEPTHS["surface"][k]) for k in (0, 1))
    merge = convlstm_study.merged(tiles, [level, timing], seed=0)
    assert merge == pytest.approx(truth, abs=1e-5)
    spoilt = dict(tiles.layers)
    spoilt["probes surface"] = spoilt["probes surface"].copy()
    spoilt["probes surface"][tiles.fold(0) != "train"] += 1.0  # what hidden blocks read
    again = convlstm_study.merged(convlstm_study.Tiles(spoilt), [level, timing], seed=0)
    assert again == pytest.approx(merge)


def test_an_improvement_is_chosen_where_it_validates_best():
    """A is better at validation probes of fold 0, B of fold 1: each fold reports its own."""
    rows = [
        {"question": convlstm_study.OWN, "variant": variant, "seed": seed, "part": part,
         "block": f"{seed}", "rmse_m3_m3": rmse, "r": rmse, "pooled_r": 0.5,
         "ubrmse_m3_m3": 0.1, "bias_m3_m3": 0.0}
        for seed, variant, part, rmse in (
            (0, "A", "validation", 0.1), (0, "B", "validation", 0.2), (0, "A", "test", 0.5),
            (0, "B", "test", 0.1), (1, "A", "validation", 0.3), (1, "B", "validation", 0.2),
            (1, "A", "test", 0.1), (1, "B", "test", 0.7))
    ]  # fmt: skip
    both = convlstm_study.with_choice(pd.DataFrame(rows))
    ours = both[(both["variant"] == convlstm_study.OURS) & (both["part"] == "test")]
    assert ours.set_index("seed")["chose"].to_dict() == {0: "A", 1: "B"}
    assert ours.set_index("seed")["rmse_m3_m3"].to_dict() == {0: 0.5, 1: 0.7}


def test_scores_of_a_block_are_those_of_its_cells():
    rng = np.random.default_rng(10)
    observed = rng.normal(0.2, 0.05, (30, 4))
    predicted = observed + np.array([0.1, -0.1, 0.0, 0.0]) + rng.normal(0, 0.01, observed.shape)
    observed[5:, 3] = np.nan  # five days are no score
    scores = convlstm_study.block_scores(predicted, observed)
    pairs = [np.corrcoef(predicted[:, k], observed[:, k])[0, 1] for k in range(3)]
    assert scores["r"] == pytest.approx(np.mean(pairs))
    off = (predicted - observed)[:, :3]
    assert scores["rmse_m3_m3"] == pytest.approx(np.sqrt((off**2).mean()))
    assert scores["ubrmse_m3_m3"] == pytest.approx(off.std(axis=0).mean())
    assert scores["pooled_r"] < 0.9 < scores["r"]  # levels differ, courses do not
