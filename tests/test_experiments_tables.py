"""Tables set ours beside the paper's; intervals hold for other places and other seeds."""

import numpy as np
import pandas as pd
import pytest

from soilkit import studies
from tests import house
from tests.benchmarks import fusion_tables
from tests.benchmarks.fusion_experiments import EXPERIMENTS, PROFILES, chosen
from tests.benchmarks.fusion_tables import (
    Results,
    by_stratum,
    mean_with_interval,
    paper_beside_ours,
)

N_SENSORS = 24


def coverage(n_runs, *, n_seeds, block_sd, seed_sd):
    """How often the interval holds the truth, 0, when blocks and seeds both are drawn."""
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(12), 2)
    hits = 0
    for _ in range(n_runs):
        of_blocks = rng.normal(0, block_sd, 12)[blocks]
        of_seeds = rng.normal(0, seed_sd, (n_seeds, 1))
        found = mean_with_interval(
            of_blocks + of_seeds + rng.normal(0, 0.05, (n_seeds, N_SENSORS)), blocks
        )
        hits += found["lower"] <= 0 <= found["upper"]
    return hits / n_runs


@pytest.mark.parametrize(
    ("n_seeds", "block_sd", "seed_sd"), [(5, 0.05, 0.0), (3, 0.05, 0.02), (5, 0.01, 0.05)]
)
def test_the_interval_covers_as_promised_whether_places_or_seeds_decide(n_seeds, block_sd, seed_sd):
    """Blocks alone, both, seeds mostly: at least 93 % of 95 %, by 600 simulated studies."""
    found = coverage(600, n_seeds=n_seeds, block_sd=block_sd, seed_sd=seed_sd)
    assert 0.93 <= found <= 0.995


def test_one_seed_says_that_its_interval_is_over_places_alone():
    found = mean_with_interval(np.random.default_rng(0).normal(size=(1, 20)), np.arange(20))
    assert np.isfinite(found["lower"])
    assert found["status"] == "one seed: the interval is over blocks alone"


def test_fewer_than_five_blocks_give_no_interval():
    found = mean_with_interval(np.ones((3, 8)), np.repeat(np.arange(4), 2))
    assert found["value"] == 1 and np.isnan(found["lower"])
    assert found["status"] == "no interval: fewer than 5 blocks"


def test_sensors_of_one_block_are_no_independent_places():
    """The same scores in 20 blocks or in 5: the interval of the 5 is much wider."""
    values = np.repeat(np.random.default_rng(1).normal(size=5), 4)[None].repeat(3, axis=0)
    apart = mean_with_interval(values, np.arange(20))
    together = mean_with_interval(values, np.repeat(np.arange(5), 4))
    assert together["upper"] - together["lower"] > 2 * (apart["upper"] - apart["lower"])


def results(steps, *, n_seeds=3):
    """A study whose lines lie ``steps`` (variant -> R above the first line) apart, with noise."""
    rng = np.random.default_rng(0)
    names = [f"s{i:02d}" for i in range(N_SENSORS)]
    place = rng.normal(0.6, 0.2, N_SENSORS)
    lines, sensors = [], []
    for variant, step in steps.items():
        for seed in range(n_seeds):
            key = f"{variant}-{seed}"
            told = {"experiment": "table16", "variant": variant, "withheld": np.nan, "seed": seed}
            lines.append({**told, "key": key})
            score = place + step + rng.normal(0, 0.01, N_SENSORS)
            columns = dict.fromkeys(("r", "ubrmse_m3_m3", "rmse_m3_m3", "bias_m3_m3"), score)
            whose = {"key": key, "split": "validation", "withheld": np.nan, "n": 20}
            sensors.append(pd.DataFrame({**whose, "sensor_id": names, **columns}))
    classes = {"land_cover": ["Shrubs", "Agriculture"] * 12, "texture": "Loam", "koeppen": "BS"}
    places = {"sensor_id": names, "station_id": names, "network": "SYN", **classes}
    places["block"] = [f"b{i // 2}" for i in range(N_SENSORS)]
    return Results(pd.DataFrame(lines), pd.concat(sensors), pd.DataFrame(places))


def rows_of(steps, metric="r"):
    table = paper_beside_ours(results(steps), chosen(["table16"])[0])
    return table[table["metric"] == metric].set_index("variant")


def test_a_step_is_paired_so_that_places_drop_out():
    """Places differ by 0.2 and lines by 0.05: unpaired that is lost, paired it is seen."""
    found = rows_of({"None (Baseline)": 0.0, "SoilGrids": -0.05}).loc["SoilGrids"]

    assert found["our_step"] == pytest.approx(-0.05, abs=0.005)
    assert found["upper"] < -0.03
    assert found["ours_upper"] - found["ours_lower"] > 0.1
    assert found["paper_step"] == pytest.approx(0.658 - 0.727)
    assert found["pattern"] == "as in the paper"
    assert found["difference"] == pytest.approx(found["ours"] - 0.658)


def test_a_step_against_the_papers_is_called_opposite_and_none_is_not_resolved():
    table = rows_of({"None (Baseline)": 0.0, "DEM": 0.05, "GLDAS": 0.0})

    assert table.loc["DEM", "pattern"] == "opposite"
    assert table.loc["GLDAS", "pattern"] == "not resolved"
    assert pd.isna(table.loc["None (Baseline)", "our_step"])


def test_a_line_that_was_not_run_says_so():
    table = rows_of({"None (Baseline)": 0.0})
    assert table.loc["SMAP", "status"] == "no trial stands"
    assert table.loc["SMAP", "paper"] == 0.706


def test_a_test_table_stands_only_when_all_its_lines_saw_the_test():
    """Half a table of test scores would compare lines that were looked at with none."""
    table16 = chosen(["table16"])[0]
    found = results(dict.fromkeys(table16.variants, 0.0))
    seen = found.sensors.assign(split="test")
    halves = seen[seen["key"].str.startswith("DEM")]
    for extra, splits in ((halves, {"validation"}), (seen, {"validation", "test"})):
        both = Results(found.lines, pd.concat([found.sensors, extra]), found.places.reset_index())
        assert set(fusion_tables.render(both, [table16])["split"]) == splits


def test_strata_stand_beside_the_papers_with_its_asterisks():
    table = by_stratum(results({"None (Baseline)": 0.0}), "table16", variant="None (Baseline)")
    table = table[table["metric"] == "r"].set_index(["stratum", "class"])

    assert table.loc[("land_cover", "Shrubs"), "paper"] == 0.775
    assert table.loc[("land_cover", "Shrubs"), "n_sensors"] == 12
    assert pd.isna(table.loc[("network", "SYN"), "paper"])


def test_every_printed_line_of_the_papers_tables_is_found():
    """A label that is spelt otherwise than in the data would leave an empty cell."""
    for experiment in EXPERIMENTS:
        if experiment.table is not None and experiment.name != "table7":
            for name in experiment.variants:
                what = {"split": "validation", "metric": "r"}
                assert np.isfinite(fusion_tables.printed_score(experiment, name, **what)), name


def test_tables_9_and_16_have_five_seeds_and_the_others_three():
    seeds = {e.name: {t.seed for _, _, t in e.trials(PROFILES["small"])} for e in EXPERIMENTS}
    assert {name for name, found in seeds.items() if len(found) == 5} == {"table9", "table16"}
    assert {len(found) for found in seeds.values()} == {3, 5}


def test_the_sweep_has_the_papers_rates_at_the_papers_size():
    """Table 7: 0.1, 0.05, 0.03 and 1e-4, 5e-5, 3e-5, every pair."""
    trials = [t for _, _, t in chosen(["table7"])[0].trials(PROFILES["paper"])]
    pairs = {(round(t.learning_rate, 9), round(t.weight_decay, 9)) for t in trials}
    assert pairs == {(a, b) for a in (0.1, 0.05, 0.03) for b in (1e-4, 5e-5, 3e-5)}


def test_table_20_joins_smap_within_an_hour():
    smap = PROFILES["small"].recipes["smap"]
    assert smap.anchor == "smap"
    assert (smap.seed, smap.n_stations) == (PROFILES["small"].recipes["sentinel1"].seed, 300)


def test_a_pattern_is_told_to_hold_in_both_worlds_or_in_one():
    """By hand: of three lines the paper steps up; world 1 agrees on two, world 2 on one of them."""
    line = {
        "experiment": "table9", "table": 9, "split": "validation", "metric": "r",
        "paper_step": 0.05, "our_step": 0.04, "lower": 0.01, "upper": 0.07,
        "pattern": "as in the paper",
    }  # fmt: skip
    open_step = {"our_step": 0.01, "lower": -0.02, "upper": 0.04, "pattern": "not resolved"}
    first = pd.DataFrame([
        line | {"variant": "a"}, line | {"variant": "b"}, line | {"variant": "c"} | open_step,
        line | {"variant": "a", "split": "test"}, line | {"variant": "d", "our_step": np.nan},
    ])  # fmt: skip
    second = pd.DataFrame([
        line | {"variant": "a"}, line | {"variant": "b"} | open_step,
        line | {"variant": "c"} | open_step, line | {"variant": "d"},
    ])  # fmt: skip
    both = studies.in_both_worlds(first, second).set_index("line")
    assert both["holds in"].to_dict() == {"a": "both", "b": "world 1", "c": "neither"}
    assert both.loc["b", ["world 1", "world 2", "paper"]].tolist() == [0.04, 0.01, 0.05]


def test_what_a_notebook_reads_is_what_was_computed():
    """The tables as they were committed, beside the same made of the scores of each sensor."""
    tables = studies.read_study(house.ROOT / "reports" / "xception_fusion")
    sensors = tables["sensors"]
    whole = Results(tables["lines"], sensors, tables["places"])
    for name in ("table9", "loss"):
        ours = paper_beside_ours(whole, chosen([name])[0]).replace({"table": {None: np.nan}})
        read = studies.experiment_table(tables, name)
        pd.testing.assert_frame_equal(read, ours, check_dtype=False, rtol=1e-4, atol=1e-5)
    full = {"variant": studies.FULL, "metric": "r"}
    scores = whole.scores("table9", split="validation", **full)
    pd.testing.assert_frame_equal(studies.line_scores(tables, "table9", **full), scores)
