"""The first page, word for word: rewording a status must change no verdict, and no verdict a word.

``python -m tests.test_evaluation_page`` writes ``evaluation_page.txt`` anew where a text is meant
to change."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soilkit import __version__
from soilkit.metrics import evaluation
from soilkit.metrics.evaluation import Background, NotAudited

PAGE = Path(__file__).with_name("evaluation_page.txt")
PRODUCTS = {"ours": 0.02, "SMAP L3": 0.05, "GLDAS": 0.06}  # white errors [m3 m-3]


def table(*, n_stations=12, n=270, step="3D"):
    """Predictions with a spread, their stations with classes, and features, all of seed 0."""
    rng = np.random.default_rng(0)
    times = pd.date_range("2018-01-05", periods=n, freq=step).astype("datetime64[us]")
    season = 0.04 * np.sin(2 * np.pi * times.day_of_year.to_numpy() / 365.25)
    weather = np.zeros(n)
    for k in range(1, n):
        weather[k] = 0.5 * weather[k - 1] + 0.02 * rng.standard_normal()
    rows, stations = [], []
    for k in range(n_stations):
        name, network = f"S{k:02d}", ("SCAN", "SNOTEL")[k % 2]
        ids = {"sensor_id": name, "station_id": name, "network": network}
        stations.append(
            ids | {
                "latitude": 30.0 + 2.5 * (k % 5), "longitude": -120.0 + 2.5 * (k // 5),
                "land_cover": ("Agriculture", "Shrubs")[k // 2 % 2], "texture": "loam",
                "koeppen": ("BSk", "Cfa", "")[k % 3], "elevation_m": 100.0 * k,
                "depth_from_m": 0.0, "depth_to_m": 0.05,
            }
        )  # fmt: skip
        truth = rng.uniform(0.12, 0.3) + season + weather + 0.02 * rng.standard_normal(n)
        for model, error in PRODUCTS.items():
            values = {"sample_id": [f"{name}_{i}" for i in range(n)], **ids, "time": times}
            values |= {"observed_m3_m3": truth, "model": model, "split": "by station"}
            values["predicted_m3_m3"] = truth + error * rng.standard_normal(n)
            rows.append(pd.DataFrame(values | {"predicted_std_m3_m3": error}))
    return pd.concat(rows, ignore_index=True), pd.DataFrame(stations)


def background(predictions, folds, **more):
    once = predictions.drop_duplicates("sample_id")
    rng = np.random.default_rng(1)
    drawn = {name: rng.standard_normal(len(once)) for name in ("slope", "clay")}
    smap = pd.factorize(once["station_id"])[0] + 0.001 * np.arange(len(once))
    features = pd.DataFrame({"sample_id": once["sample_id"].to_numpy(), **drawn, "smap_ssm": smap})
    return Background(
        folds={"by station": pd.Series(folds, index=once["sample_id"].to_numpy())},
        samples=once, features=features, predictors=("slope", "clay"),
        coarse_columns=("smap_ssm",), **more,
    )  # fmt: skip


def pages(title, found):
    """Every sentence of one evaluation."""
    verdict = evaluation.verdict(found)
    stage = evaluation.stage(found)
    lines = [f"# {title}", "", evaluation.sentence(found), f"grade: {verdict.attrs['grade']}", ""]
    tables = {"verdict": verdict, "protocol": evaluation.protocol(found)}
    tables |= {"checklist": evaluation.checklist(found), "audit": found.audit_table}
    tables |= {"losses": found.losses, "shared pixels": found.shared_pixels}
    for name, page in tables.items():
        page = page.drop(columns="requirement", errors="ignore")
        lines += [f"## {name}", *(" | ".join(map(str, row)) for row in page.to_numpy()), ""]
    lines += ["## cautions", *evaluation.cautions(found), "", "## stage", str(tuple(stage)), ""]
    audits = [f"{audit.split}: {audit.claim()}" for audit in found.audits.values()]
    refused = [str(a) for a in found.audits.values() if isinstance(a, NotAudited)]
    parts = ("overall", "by_block", "errors", "comparison", "wins", "anomaly", "rescaled",
             "spatial", "spatial_mean", "spatial_parts", "literature", "triple")  # fmt: skip
    statuses = [f"{name}: {_statuses(getattr(found, name))}" for name in parts]
    statuses += [f"by {name}: {_statuses(page)}" for name, page in found.strata.items()]
    for name in ("applicability", "calibration", "failures"):
        statuses.append(f"{name}: {getattr(found, name).status}")
    lines += ["## audits", *audits, *refused, "", "## statuses", *statuses, ""]
    return "\n".join(lines).replace(f"soilkit {__version__}", "soilkit VERSION")


def _statuses(page):
    words = page["status"] if "status" in page else pd.Series(dtype=str)
    return "; ".join(f"{name} ({n})" for name, n in sorted(words.value_counts().items()))


def situations():
    """Every part exists, one fails, or nothing is known: predictions, stations, what is known."""
    everything, stations = table()
    predictions = everything[everything["model"] != "GLDAS"].reset_index(drop=True)
    station = predictions.drop_duplicates("sample_id")["station_id"].to_numpy()
    rng = np.random.default_rng(2)
    told = {"flags": "G only", "versions": "product 3", "upscaling": "none", "values": "raw"}
    told |= {"grid": "9 km", "bounds": "1 h", "sensing depth": "5 cm"}
    own = {"ours": ("sentinel1",), "SMAP L3": ("smap",)}
    full = background(predictions, station, provenance=told, sources=own)
    known = replace(full, features=None, predictors=(), coarse_columns=())
    by_row = replace(background(predictions, rng.integers(0, 5, len(station))), predictors=())
    both = pd.concat([predictions, predictions.assign(split="train")], ignore_index=True)
    ours = predictions[predictions["model"] == "ours"]
    value = ours["predicted_m3_m3"]
    season = 0.2 + 0.04 * np.sin(2 * np.pi * ours["time"].dt.day_of_year / 365.25)
    near = stations.assign(latitude=30.05, longitude=-98.05 + 0.001 * np.arange(len(stations)))
    of_validation = {"validation": full.folds["by station"]}
    shared = {"ours": ("smap",), "SMAP L3": ("smap",)}
    lasting = predictions["time"] < "2018-06-01"
    return {
        "all that can be known": (everything, stations, full),
        "random rows": (predictions, stations, by_row),
        "rows that train, in one pixel": (both, near, replace(full, predictors=())),
        "synthetic": (predictions, stations, known),
        "validation, shared sources": (predictions.assign(split="validation"), stations, replace(
            known, folds=of_validation, sources=shared)),
        "one pixel": (predictions, near, full),
        "no stations, no folds": (predictions, None, None),
        "a few windows": (*table(n_stations=3, n=40, step="10D"), None),
        "shuffled": (ours.assign(predicted_m3_m3=rng.permutation(value)), stations, known),
        "too wet": (ours.assign(predicted_m3_m3=value + 0.2), stations, known),
        "percent": (ours.assign(predicted_m3_m3=100 * value), stations, known),
        "the season": (ours.assign(predicted_m3_m3=season), stations, known),
        "a constant": (ours.assign(predicted_m3_m3=0.2), stations, known),
        "no reading": (ours.assign(observed_m3_m3=np.nan), stations, known),
        "SMAP alone": (predictions[predictions["model"] == "SMAP L3"], stations, None),
        "half a year": (predictions[lasting], stations, full),
    }  # fmt: skip


def text_of(title):
    predictions, stations, known = situations()[title]
    label = "synthetic" if title == "synthetic" else "real soil"
    main = "ours" if (predictions["model"] == "ours").any() else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluation.evaluate(predictions, stations, label=label, main=main, background=known)
    return pages(title, found)


QUICK = ("all that can be known", "rows that train, in one pixel", "a constant", "SMAP alone",
         "no reading", "a few windows")  # fmt: skip
TITLES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
          for name in situations()]  # fmt: skip


@pytest.mark.parametrize("title", TITLES)
def test_the_page_reads_as_it_did(title):
    stored = "\n" + PAGE.read_text(encoding="utf-8")
    body = stored.split(f"\n# {title}\n")[1].split("\n# ")[0]
    assert text_of(title).splitlines() == [f"# {title}", *body.splitlines()]


if __name__ == "__main__":
    PAGE.write_text("\n".join(map(text_of, situations())), encoding="utf-8")
