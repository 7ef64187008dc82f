"""Maps against truth at several scales, on classes of ground, by distance and at stations."""

import numpy as np
import pytest

from soilkit import metrics
from soilkit.errors import ContractError
from soilkit.metrics import Field

NOISE = np.random.default_rng(0)


def blocks(values, n):
    """Every value as a square of n x n."""
    return np.kron(values, np.ones((n, n)))


def regions(n, make):
    """Fields of n regions, each from a generator of its own."""
    return [Field(f"r{k}", *make(np.random.default_rng(k))) for k in range(n)]


def value(table, metric, **where):
    """A value of a long table."""
    for name, wanted in where.items():
        table = table[
            np.isclose(table[name], wanted) if name == "scale_m" else table[name] == wanted
        ]
    (row,) = table[table["metric"] == metric].itertuples()
    return row


# ---- what is explained ---------------------------------------------------------------------------


def test_a_map_of_twice_the_contrast_explains_all_and_is_no_better_than_one_number():
    # d = map - truth = truth - mean: its variance is the truth's, so the efficiency is 1 - 1
    truth = NOISE.uniform(0.1, 0.4, (6, 7))
    scores = metrics.map_scores(2 * truth, truth)
    assert scores["explained"] == pytest.approx(1) and scores["r"] == pytest.approx(1)
    assert scores["efficiency"] == pytest.approx(0, abs=1e-12)


def test_a_map_upside_down_explains_nothing():
    truth = NOISE.uniform(0.1, 0.4, (6, 7))
    scores = metrics.map_scores(0.5 - truth, truth)
    assert scores["r"] == pytest.approx(-1) and scores["explained"] == 0
    assert scores["efficiency"] == pytest.approx(-3)  # 1 - (2 std)^2 / std^2


def test_a_spatial_r_of_a_half_explains_a_quarter():
    """The efficiency falls short of it by what the amplitude misses (Murphy 1988)."""
    truth, other = NOISE.standard_normal((2, 40, 40))
    other -= np.polyval(np.polyfit(truth.ravel(), other.ravel(), 1), truth)
    guess = 0.25 * truth + 0.25 * np.sqrt(3) * other / other.std() * truth.std()
    scores = metrics.map_scores(guess, truth)
    assert scores["r"] == pytest.approx(0.5) and scores["explained"] == pytest.approx(0.25)
    amplitude = guess.std() / truth.std()
    assert scores["efficiency"] == pytest.approx(0.25 - (0.5 - amplitude) ** 2)


# ---- scales --------------------------------------------------------------------------------------


def coarse_and_fine(rng):
    """A map of coarse squares, and the truth with as much variance below them as among them."""
    coarse = blocks(rng.standard_normal((6, 6)), 4)
    fine = rng.standard_normal((24, 24))
    fine -= blocks(fine.reshape(6, 4, 6, 4).mean(axis=(1, 3)), 4)
    fine *= np.std(coarse) / np.std(fine)
    return 0.2 + 0.01 * coarse, 0.2 + 0.01 * (coarse + fine)


def test_detail_below_its_squares_costs_a_map_half_of_what_it_explains():
    # var(truth) = 2 var(map), cov = var(map): R2 = 1/2 on cells, 1 on squares of 4 cells
    table = metrics.scale_scores(regions(6, coarse_and_fine), cell_size_m=320, scales_m=[320, 1280])
    assert value(table, "explained", scale_m=320).value == pytest.approx(0.5)
    assert value(table, "efficiency", scale_m=320).value == pytest.approx(0.5)
    assert value(table, "r", scale_m=1280).value == pytest.approx(1)
    line = value(table, "r", scale_m=320)
    assert (line.n_cells, line.n_fields, line.n_regions, line.status) == (6 * 576, 6, 6, "ok")
    assert value(table, "r", scale_m=1280).n_cells == 6 * 36


def test_below_its_cells_a_map_repeats_itself():
    # truth of 2 x 2 pixels a cell: the same numbers as a map that was drawn finer by hand
    fields = [Field("r", NOISE.random((8, 8)), NOISE.random((16, 16))) for _ in range(2)]
    by_hand = [Field("r", blocks(one.predicted, 2), one.truth) for one in fields]
    asked = metrics.scale_scores(fields, cell_size_m=20, scales_m=[10])
    drawn = metrics.scale_scores(by_hand, cell_size_m=10, scales_m=[10])
    assert asked["value"].to_numpy() == pytest.approx(drawn["value"].to_numpy())
    assert asked["scale_m"].unique() == [10]


def test_a_region_that_is_wetter_everywhere_has_a_bias_and_no_pattern():
    """Deviations are from each region's own mean; RMSE and bias are of the values."""

    def shifted(rng):
        predicted, truth = coarse_and_fine(rng)
        return predicted + 0.05, truth

    plain, wet = regions(6, coarse_and_fine), regions(6, shifted)
    a, b = (metrics.scale_scores(f, cell_size_m=320, scales_m=[320]) for f in (plain, wet))
    for metric in ("r", "ubrmse_m3_m3", "std_map_m3_m3"):
        assert value(a, metric).value == pytest.approx(value(b, metric).value)
    assert value(b, "bias_m3_m3").value == pytest.approx(0.05)
    rmse = np.hypot(0.05, value(a, "ubrmse_m3_m3").value)
    assert value(b, "rmse_m3_m3").value == pytest.approx(rmse)


def test_what_a_map_knows_of_whole_smap_pixels_is_no_detail_below_them():
    """Figure 14's claim, tested: with ``within_m`` the means of 9 km squares are taken off."""

    def make(rng):
        pixel = blocks(rng.standard_normal((2, 2)), 9)
        return pixel + 1e-3 * rng.standard_normal((18, 18)), pixel + rng.standard_normal((18, 18))

    fields = regions(8, make)
    whole = metrics.scale_scores(fields, cell_size_m=1000, scales_m=[1000])
    inside = metrics.scale_scores(fields, cell_size_m=1000, scales_m=[1000], within_m=9000)
    assert value(whole, "r").value > 0.4 and abs(value(inside, "r").value) < 0.1
    assert value(inside, "std_map_m3_m3").value == pytest.approx(1e-3, rel=0.05)
    share = value(inside, "std_truth_m3_m3").value ** 2 / value(whole, "std_truth_m3_m3").value ** 2
    assert 0.4 < share < 0.9  # one unit of variance inside, about one among


def test_between_regions_one_number_a_region_can_be_all_that_is_known():
    """With ``within_m`` infinite the differences between regions are the pattern."""

    def make(rng):
        level = rng.uniform(0.1, 0.4)
        return np.full((4, 4), level), np.full((4, 4), level + 0.02)

    fields = regions(6, make)
    inside = metrics.scale_scores(fields, cell_size_m=9000, scales_m=[36_000])
    across = metrics.scale_scores(fields, cell_size_m=9000, scales_m=[36_000], within_m=np.inf)
    assert value(inside, "r").status == "constant"
    assert value(across, "r").value == pytest.approx(1) and value(across, "r").n_cells == 6
    levels = np.std([one.truth[0, 0] for one in fields])
    assert value(across, "std_truth_m3_m3").value == pytest.approx(levels)


def test_the_interval_of_the_bias_holds_the_truth_as_often_as_it_says():
    """Regions have biases of their own, so only regions count: 95 % of 400 intervals of six."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(400):
        truth = rng.standard_normal((6, 3, 3))
        predicted = truth + rng.normal(0, 1, (6, 1, 1)) + 0.1 * rng.standard_normal((6, 3, 3))
        fields = [Field(str(k), *pair) for k, pair in enumerate(zip(predicted, truth, strict=True))]
        line = value(metrics.scale_scores(fields, cell_size_m=1, scales_m=[1]), "bias_m3_m3")
        hits += line.lower < 0 < line.upper
    assert 0.92 < hits / 400 < 0.98


def test_few_regions_and_one_number_have_their_reason():
    one_number = [Field(f"r{k}", np.full((4, 4), 0.2), NOISE.random((4, 4))) for k in range(4)]
    table = metrics.scale_scores(one_number, cell_size_m=1, scales_m=[1])
    assert value(table, "r").status == "constant" and np.isnan(value(table, "explained").value)
    bias = value(table, "bias_m3_m3")
    assert bias.status == "no interval: 4 regions < 5" and np.isnan(bias.lower)
    assert value(table, "efficiency").value == pytest.approx(0)


def test_a_coarse_cell_wants_half_of_its_cells_and_the_same_for_both():
    truth = np.arange(16.0).reshape(4, 4)
    predicted = truth.copy()
    predicted[:2, :2] = np.nan  # the first coarse cell is lost
    predicted[0, 2] = np.nan  # the second keeps three of four, in the truth too
    table = metrics.scale_scores([Field("r", predicted, truth)], cell_size_m=10, scales_m=[20])
    assert value(table, "rmse_m3_m3").value == 0 and value(table, "r").n_cells == 3


def test_what_no_scale_can_be_made_of_is_named():
    field = Field("r", np.zeros((4, 4)), np.zeros((8, 8)))
    with pytest.raises(ContractError, match="no whole number of pixels"):
        Field("r", np.zeros((4, 4)), np.zeros((6, 6)))
    with pytest.raises(ContractError, match="one class a cell"):
        Field("r", np.zeros((4, 4)), np.zeros((8, 8)), {"texture": np.full((8, 8), "Loam")})
    with pytest.raises(ContractError, match="finer truth"):
        metrics.scale_scores([field], cell_size_m=30, scales_m=[10])
    with pytest.raises(ContractError, match="No whole cell"):
        metrics.scale_scores([field], cell_size_m=10, scales_m=[90])
    with pytest.raises(ContractError, match="No field to score"):
        metrics.scale_scores([], cell_size_m=10, scales_m=[10])
    with pytest.raises(ContractError, match="No field has classes"):
        metrics.class_scores([field])


# ---- classes of ground ---------------------------------------------------------------------------


def test_a_class_that_is_shown_too_wet_has_the_bias_and_the_others_have_none():
    def make(rng):
        truth = 0.2 + 0.05 * rng.standard_normal((8, 8))
        wood = np.zeros((8, 8), bool)
        wood[:, :4] = True
        names = np.where(wood, "Forest", "Crops").astype(object)
        names[0, 0] = ""
        return truth + 0.08 * wood, truth, {"land_cover": names}

    table = metrics.class_scores(regions(6, make))
    bias = {c: value(table, "bias_m3_m3", **{"class": c}) for c in ("Crops", "Forest")}
    assert bias["Forest"].value == pytest.approx(0.08)
    assert bias["Crops"].value == pytest.approx(0, abs=1e-12)
    assert bias["Forest"].n_cells == 6 * 31  # the unknown cell is of no class
    assert bias["Forest"].share + bias["Crops"].share == 1
    # The same offset from its region everywhere: no error remains within a class.
    assert value(table, "ubrmse_m3_m3", **{"class": "Forest"}).value == pytest.approx(0, abs=1e-9)
    assert set(table["characteristic"]) == {"land_cover"}


# ---- distance ------------------------------------------------------------------------------------


def test_a_semivariogram_counts_every_pair_of_known_cells():
    """Against the sum over all pairs, one by one, with gaps and two fields."""
    stack = NOISE.standard_normal((2, 7, 9))
    stack[0, 2, 3:6] = np.nan
    table = metrics.semivariogram(stack, cell_size_m=10, max_lag_m=45, n_lags=3)
    squares, metres, n = np.zeros((3, 3))
    row, col = np.indices((7, 9)).reshape(2, -1)
    i, j = np.triu_indices(63, 1)
    lag = 10 * np.hypot(row[i] - row[j], col[i] - col[j])
    for z in stack.reshape(2, -1):
        use = (lag <= 45) & np.isfinite(z[i] - z[j])
        code = np.minimum((lag[use] / 15).astype(int), 2)
        squares += np.bincount(code, (z[i] - z[j])[use] ** 2, 3)
        metres += np.bincount(code, lag[use], 3)
        n += np.bincount(code, minlength=3)
    assert table["n_pairs"].to_numpy() == pytest.approx(n)
    assert table["semivariance"].to_numpy() == pytest.approx(squares / n / 2)
    assert table["lag_m"].to_numpy() == pytest.approx(metres / n)


def test_white_noise_differs_alike_at_every_distance():
    # a semivariance of the variance, 0.01, from one cell on
    table = metrics.semivariogram(
        0.1 * np.random.default_rng(3).standard_normal((96, 96)), cell_size_m=30, max_lag_m=900
    )
    assert len(table) == 16 and table["semivariance"].to_numpy() == pytest.approx(0.01, rel=0.05)


def test_cells_too_far_apart_have_no_semivariogram():
    with pytest.raises(ContractError, match="No two known cells"):
        metrics.semivariogram(np.zeros((3, 3)), cell_size_m=100, max_lag_m=90)


# ---- as probes see it ----------------------------------------------------------------------------


def test_a_perfect_map_has_the_error_of_its_probes():
    # noise 0.03: at stations ubRMSE 0.03, against the truth 0
    truth = 0.2 + 0.05 * np.random.default_rng(4).standard_normal((6, 20, 20))
    fields = [Field(f"r{k}", one, one) for k, one in enumerate(truth)]
    table = metrics.sampled_scores(fields, n_stations=30, probe_std_m3_m3=0.03)
    line = value(table, "ubrmse_m3_m3")
    assert line.dense == 0 and line.value == pytest.approx(0.03, rel=0.05)
    assert line.lower < 0.03 < line.upper and line.n_stations == 180
    assert value(table, "r").dense == pytest.approx(1) and value(table, "r").upper < 0.95


def test_a_pixel_that_differs_from_its_cell_counts_against_the_map():
    """A map that is right on every cell: its stations see the detail inside cells, 0.04."""
    rng = np.random.default_rng(5)
    fine = rng.standard_normal((64, 64))
    cell = blocks(fine.reshape(16, 4, 16, 4).mean(axis=(1, 3)), 4)
    truth = 0.2 + 0.04 * (fine - cell) / np.std(fine - cell) + 0.05 * cell
    field = Field("r", truth.reshape(16, 4, 16, 4).mean(axis=(1, 3)), truth)
    line = value(metrics.sampled_scores([field], n_stations=400), "ubrmse_m3_m3")
    assert line.dense == pytest.approx(0, abs=1e-12) and line.value == pytest.approx(0.04, rel=0.03)


def test_an_offset_stays_with_its_probe():
    """One probe, two moments: all its offset is bias, and few stations tell less than many."""
    truth = 0.2 + 0.05 * NOISE.standard_normal((2, 9, 9))
    fields = [Field("r", one, one) for one in truth]
    kinds = {"probe_offset_m3_m3": 0.02, "seed": 1}
    table = metrics.sampled_scores(fields, n_stations=1, **kinds)
    assert value(table, "ubrmse_m3_m3").upper == pytest.approx(0, abs=1e-9)
    bias = value(table, "bias_m3_m3")
    assert bias.upper == pytest.approx(0.04, rel=0.2)  # two standard deviations
    many = value(metrics.sampled_scores(fields, n_stations=16, **kinds), "bias_m3_m3")
    assert many.upper - many.lower == pytest.approx((bias.upper - bias.lower) / 4, rel=0.2)
    with pytest.raises(ContractError, match="no pixel is known"):
        metrics.sampled_scores(
            [Field("r", np.full((2, 2), np.nan), truth[0][:2, :2])], n_stations=1
        )


# ---- intervals -----------------------------------------------------------------------------------


def with_limits(region, truth, *, half, n=1):
    """A map of nought with an interval of one width, over a truth of n pixels a cell's side."""
    zero = np.zeros(np.array(truth.shape) // n)
    return Field(region, zero, truth, limits=(zero - half, zero + half))


def test_an_interval_of_two_deviations_holds_what_a_normal_error_promises():
    """1.645 deviations hold 90 %; the interval over regions holds that in some 95 of 100 worlds."""
    rng, held = np.random.default_rng(1), []
    for _ in range(100):
        fields = [with_limits(f"r{k}", rng.standard_normal((12, 12)), half=1.645) for k in range(8)]
        mean = metrics.interval_coverage(fields).iloc[-1]
        held.append(mean["lower"] <= 0.9 <= mean["upper"])
        assert mean["value"] == pytest.approx(0.9, abs=0.05) and mean["n_places"] == 8 * 144
    assert sum(held) >= 88


def test_every_region_counts_as_one_however_many_places_it_has():
    # 4 of 4, and of 36 in two moments 18: the mean of 1 and 0.5
    inside, outside = np.zeros((2, 2)), np.full((3, 6), 2.0)
    fields = [with_limits("a", inside, half=1), with_limits("b", outside, half=1)]
    table = metrics.interval_coverage([*fields, with_limits("b", outside * 0, half=1)])
    assert table["region"].tolist() == ["a", "b", "all"]
    assert table["value"].tolist() == [1, 0.5, 0.75]
    assert table["n_places"].tolist() == [4, 36, 40]
    assert table["lower"].isna().all()  # of two regions none is told


def test_pixels_leave_an_interval_that_holds_their_mean():
    """Of two pixels at -2 and two at 2 none is within 1, their mean of 0 is."""
    field = with_limits("a", np.tile([[-2.0, 2.0], [2.0, -2.0]], (3, 3)), half=1, n=2)
    assert metrics.interval_coverage([field])["value"].tolist() == [1, 1]
    assert metrics.interval_coverage([field], is_fine=True)["value"].tolist() == [0, 0]
    assert metrics.interval_coverage([field], is_fine=True)["n_places"].iloc[0] == 36


def test_places_without_an_interval_or_a_truth_promise_nothing():
    field = with_limits("a", np.array([[0.0, 5.0], [np.nan, 0.0]]), half=1)
    field.limits[0][1, 1] = np.nan  # outside the area of applicability
    assert metrics.interval_coverage([field])["value"].tolist() == [0.5, 0.5]
