"""The protocol box: what was scored, how, and what was lost on the way."""

import pandas as pd

from soilkit import __version__
from soilkit.evaluation import facts
from soilkit.evaluation.records import Evaluation, is_missing

NOT_TOLD = "not told with these predictions"


def protocol(evaluation: Evaluation) -> pd.DataFrame:
    """What a score's reader has to know before the score: one line an item.

    ``background.provenance`` adds lines, and takes the place of ours where the item is the same.

    Returns
    -------
    DataFrame: ``item, value``
    """
    lines = {
        "data": evaluation.label + (" (a made-up world)" if evaluation.is_synthetic else ""),
        "versions": f"soilkit {__version__}",
        "model": evaluation.main,
        "beside it": ", ".join(evaluation.models[1:]) or "no other model",
        "split": _split(evaluation),
        "may be called": evaluation.claim,
        "window": _window(evaluation),
        "flags": NOT_TOLD,
        "depth": facts.depths(evaluation),
        "places": _places(evaluation),
        **_losses(evaluation),
        "a sensor counts": f"from {evaluation.options.min_samples} pairs on",
        "sensors by status": facts.statuses(evaluation),
        "intervals of a sensor": "95 %, effective sample size from lag-1 correlations in time",
        "intervals of a mean": f"95 %, whole {_unit(evaluation)} drawn anew",
        "comparisons": "paired on identical samples, studentised bootstrap over 2-degree blocks, "
        "p-values by Holm",
        "values": _state(evaluation),
        "dates of the map's skill": _dates(evaluation),
        "seed": str(evaluation.options.seed),
    }
    lines |= {str(item): str(value) for item, value in evaluation.background.provenance.items()}
    return pd.DataFrame(lines.items(), columns=["item", "value"])


def _split(evaluation: Evaluation) -> str:
    table = evaluation.audit_table
    rows = table[table["is_scored"]]
    return "; ".join(f"{row.split} ({row.claim})" for row in rows.itertuples())


def _window(evaluation: Evaluation) -> str:
    time = facts.pairs_of_main(evaluation)["time"]
    if not len(time):
        return "no sample is scored"
    return f"{time.min():%Y-%m-%d} to {time.max():%Y-%m-%d} (UTC)"


def _places(evaluation: Evaluation) -> str:
    n = facts.sizes(evaluation)
    words = f"{n['stations']} stations, {n['sensors']} sensors, {n['networks']} networks, "
    words += f"{n['blocks']} blocks of 2 degrees, {n['samples']:,} samples"
    lost = n["stations"] - n["located"]
    return words + (f"; {lost} stations of unknown place" if lost else "")


def _losses(evaluation: Evaluation) -> dict[str, str]:
    """A line a step that took rows, of all models together."""
    table = evaluation.losses
    lines = {"rows handed in": f"{evaluation.handed_in:,}, of {len(evaluation.models)} models"}
    for row in table[table["n_rows"] > 0].itertuples():
        lines[f"lost: {row.reason}"] = f"{row.n_rows:,}, {row.n_left:,} left"
    lines["rows scored"] = f"{len(evaluation.unseen):,}"
    return lines


def _unit(evaluation: Evaluation) -> str:
    return "networks" if is_missing(evaluation.by_block) else "2-degree blocks"


def _state(evaluation: Evaluation) -> str:
    words = "raw: as predicted, not rescaled"
    if not is_missing(evaluation.rescaled) and evaluation.rescaled["metric"].notna().any():
        states = evaluation.rescaled["state"].dropna().unique()
        words += f"; beside them, always named: {'; '.join(states)}"
    return words


def _dates(evaluation: Evaluation) -> str:
    table = evaluation.spatial_mean
    if is_missing(table):
        return table["status"].iloc[0]
    row = facts.row_of(table, model=evaluation.main, part="all")
    if row is None or not row["n_dates"]:
        return "no date has ten stations"
    return f"{row['n_dates']} dates with ten stations and more"
