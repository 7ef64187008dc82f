"""Rows to tables: one line a trial, one line a trial and sensor, one line a validation."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from soilkit.experiments.recipes import Data
from soilkit.experiments.running import OK, SENSOR_COLUMNS
from soilkit.experiments.study import Line
from soilkit.files import write_text_whole
from soilkit.metrics import splits
from soilkit.metrics.evaluation import literature

KEPT = (
    "key",
    "status",
    "looked_at_test",
    "n_weights",
    "flops",
    "best_step",
    "seconds",
    "cpu_seconds",
)


def trials_table(rows: Iterable[dict[str, Any]], *, labels: dict[str, str]) -> pd.DataFrame:
    """One line a trial: its definition, how it ended, its size; ``data`` names what it learnt from.

    Parameters
    ----------
    rows : as ``Study.run`` returned them
    labels : {content hash: name of the data}, such as "synthetic"
    """
    found = []
    for row in rows:
        definition = {k: _flat(v) for k, v in row["definition"].items()}
        kept = {name: row.get(name) for name in KEPT}
        whose = {"data": labels.get(row["data"], ""), "data_hash": row["data"][:16]}
        found.append(kept | whose | definition)
    return pd.DataFrame(found)


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join("+".join(v) if isinstance(v, list) else v for v in value)
    return value


def sensors_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One line a trial, split, set of withheld sources and sensor: ``n`` and the four scores."""
    parts = []
    for row in rows:
        for one in row.get("evaluations", ()) if row["status"] == OK else ():
            whose = {name: one[name] for name in ("split", "withheld")}
            parts.append(pd.DataFrame({"key": row["key"], **whose, **one["sensors"]}))
    columns = ["key", "split", "withheld", "sensor_id", *SENSOR_COLUMNS]
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)[columns]


def curves_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One line a trial and validation: ``step, learning_rate, loss, score``."""
    parts = [pd.DataFrame(r["history"]).assign(key=r["key"]) for r in rows if r.get("history")]
    if not parts:
        return pd.DataFrame(columns=["key", "step", "learning_rate", "loss", "score"])
    table = pd.concat(parts, ignore_index=True)
    return table[["key", "step", "learning_rate", "loss", "score"]].astype({"step": int})


def places_of(datasets: Iterable[Data]) -> pd.DataFrame:
    """One line a sensor: station, network, place, block and the classes of Tables 10-12."""
    parts = []
    for data in datasets:
        named = literature.paper_strata(data.stations)
        parts.append(named.assign(block=splits.block_ids(named).to_numpy()))
    columns = ["sensor_id", "station_id", "network", "latitude", "longitude", "block"]
    table = pd.concat(parts, ignore_index=True)[[*columns, "land_cover", "texture", "koeppen"]]
    words = ("sensor_id", "station_id", "network", "block", "land_cover", "texture", "koeppen")
    return table.astype(dict.fromkeys(words, str)).drop_duplicates("sensor_id", ignore_index=True)


def lines_table(lines: Iterable[Line]) -> pd.DataFrame:
    """One line a line of a table and seed: which trial's key stands for it."""
    return pd.DataFrame(
        [
            {
                "experiment": line.experiment,
                "variant": line.variant,
                "withheld": "+".join(line.withheld),
                "seed": line.trial.seed,
                "key": line.key,
            }
            for line in lines
        ]
    )


def save(tables: dict[str, pd.DataFrame], out: Path) -> None:
    """Write the tables as csv, six digits, each whole or not at all."""
    for name, table in tables.items():
        text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        write_text_whole(out / f"{name}.csv", text)
