"""The reports of this project: which notebooks, in which order, with which parameters."""

from pathlib import Path

from soilkit.reports.book import Book, Section

SYNTHETIC = Book(
    "synthetic",
    "soilkit on the synthetic world",
    "Every number here is synthetic: it was computed on an invented world with a known truth and "
    "is no evidence about the real Earth. What it shows is that the road works from end to end.",
    (
        Section("00_start_here"),
        Section("10_build_dataset", {"n_stations": 120}),
        Section("11_inspect_in_situ"),
        Section("12_read_published_shards", folder="published"),
        Section("13_choose_splits"),
        Section("20_train_xception_fusion"),
        Section("24_tabular_baselines", {"preset": "small"}),
        Section("31_evaluate_by_stratum"),
        Section("35_bring_your_own_predictions"),
        Section("40_map_a_region", {"n_stations": 120}),
    ),
)

XCEPTION_FUSION = Book(
    "xception_fusion",
    "The Xception fusion study on the synthetic world",
    "Every number of ours here is synthetic; the paper's stand in their own columns. The trials "
    "were run by `make study`; their rows lie beside this page, which is made from them.",
    (
        Section("30_ablate_sources"),
        Section("32_input_size_and_choices"),
        Section("33_extra_inputs"),
        Section("34_anchors"),
    ),
)

TABULAR_SYNTHETIC = Book(
    "tabular_synthetic",
    "Simple ensembles on the synthetic world",
    "Every number of ours here is synthetic; those of Poehls et al. (2024), of real stations, "
    "stand in their own columns.",
    (Section("25_simple_ensembles"),),
)

US_10DAY = {
    "flags": "G only; a sensor's day counts from 12 good hours, a window from 6 such days",
    "rescaling": "none: models are fitted to the in-situ moisture of other blocks",
    "labels": "means over ten-day windows of a station's sensors, from ISMN",
    "temporal collocation": "in situ and satellites are means of one ten-day window",
    "spatial collocation": "Sentinel-1 and -2 at the station, SMAP's 10 km pixel around it",
}


def us_10day(data: Path) -> Book:
    """The run on real stations, whose data lie outside the project."""
    return Book(
        "tabular_us_10day",
        "Ten-day soil moisture at 94 real stations (USCRN, TxSON, ARM), 2019-2021",
        "Real data: the us_10day table of Sentinel-1, Sentinel-2 and SMAP predictors with labels "
        "from the International Soil Moisture Network.",
        (
            Section(
                "24_tabular_baselines",
                {
                    "train_table": str(data / "us_10day" / "matched_10day.parquet"),
                    "ismn_archive": str(data / "ismn" / "ismn_us_header_2019_2021.zip"),
                },
            ),
            Section(
                "31_evaluate_by_stratum",
                {
                    "archive": "us_10day",
                    "main": "two parts: retrospective",
                    "min_samples": 20,
                    "leave_out": ["by block, all labelled rows"],
                    "predictions": "{work}/predictions.parquet",
                    "stations": "{work}/ten_day/stations.parquet",
                    "folds": "{work}/folds.parquet",
                    "features": "{work}/ten_day/features.parquet",
                    "provenance": US_10DAY,
                },
            ),
        ),
    )


def daily_scan_snotel(data: Path) -> Book:
    """The run on real stations' daily weather."""
    return Book(
        "daily_scan_snotel",
        "Daily soil moisture at 162 real stations (SCAN, SNOTEL) from weather alone, 2010-2018",
        "Real data: daily readings of the US Department of Agriculture's SCAN and SNOTEL.",
        (Section("26_daily_from_weather", {"table": str(data / "scan_snotel_daily")}),),
    )


REAL = {"us_10day": us_10day, "scan_snotel_daily": daily_scan_snotel}  # folder of data: report


def all_books(data: Path) -> list[Book]:
    """Every report that can be made here; those on real stations where ``data`` holds them."""
    found = [make(data.resolve()) for name, make in REAL.items() if (data / name).is_dir()]
    return [SYNTHETIC, *found, TABULAR_SYNTHETIC, XCEPTION_FUSION]
