"""What each split of a predictions table allows to claim, and what its stations share."""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from soilkit import grids, splits
from soilkit.errors import ContractError
from soilkit.evaluation.records import NOT_AUDITABLE, Background, NotAudited
from soilkit.evaluation.sifting import TRAINING, TRAINS
from soilkit.splits import report as report_module
from soilkit.splits.checks import LADDER, TIMES
from soilkit.splits.copies import copied_series

ONE_SERIES = "(one series)"
LEAKY = (report_module.RANDOM_ROWS, "leaky")
# The weakest first; whatever is not listed here is leaky, and weaker than all.
RANKS = (NOT_AUDITABLE, TIMES, *LADDER)
PIXELS = {"SMAP, 9 km EASE-Grid 2.0": 9, "SMAP10KM, 0.1 degrees": 0.1, "GLDAS, 0.25 degrees": 0.25}
AUDIT = ("split", "claim", "auditable", "n_rows", "failed", "detail")
SHARED = ("pixel", "network", "n_stations", "n_pixels", "n_sharing", "stations")

Audit = splits.AuditReport | NotAudited


def audit_splits(
    predictions: pd.DataFrame, stations: pd.DataFrame, *, background: Background
) -> dict[str, Audit]:
    """An audit of every split whose training samples are known, and a refusal of the others.

    Parameters
    ----------
    predictions : checked predictions table
    stations : completed stations table
    background : Background
    """
    words = predictions["split"].astype("str")
    found: dict[str, Audit] = {}
    for name in words.unique():
        ids = set(predictions.loc[words == name, "sample_id"].astype("str"))
        try:
            found[name] = _audit(name, ids, predictions, stations=stations, background=background)
        except ContractError as error:
            found[name] = NotAudited(name, str(error))
    return found


def _audit(name, ids, predictions, *, stations, background):
    samples = predictions if background.samples is None else background.samples
    labels = labels_of(name, samples=samples, background=background)
    if labels is None:
        if TRAINING.search(name):
            return NotAudited(name, "its name says so", f"leaky: the split is called {name!r}")
        return NotAudited(name, "no folds or labels of the samples that trained were given")
    trains = ids & set(labels.index[labels == "train"])
    if trains:
        words = f"leaky: {len(trains)} scored samples are among those that train"
        return NotAudited(name, "the labels call scored samples 'train'", words)
    lost = len(ids - set(labels.index))
    if lost:
        return NotAudited(name, f"{lost} of its {len(ids)} samples have no label")
    return _checked(name, labels, samples, stations=stations, background=background)


def _checked(name, labels, samples, *, stations, background):
    """The checks of ``splits``, where every sample with a label is at hand."""
    table = samples.assign(sample_id=samples["sample_id"].astype("str")).drop_duplicates(
        "sample_id"
    )
    table = table[table["sample_id"].isin(labels.index)].reset_index(drop=True)
    if len(table) < len(labels):
        lost = len(labels) - len(table)
        reason = f"{lost:,} of {len(labels):,} samples with a label are in no table: their places"
        return NotAudited(name, f"{reason} may be those that are scored")
    held_out = (name,) if name in set(labels) else ("test",)
    rules = splits.Rules(held_out=held_out, coarse_columns=background.coarse_columns)
    report = splits.audit(
        table,
        labels.reindex(table["sample_id"]).reset_index(drop=True),
        stations=stations,
        features=background.features,
        fitted_on=background.fitted_on,
        rules=rules,
    )
    return replace(report, split=name)


def labels_of(
    name: str, *, samples: pd.DataFrame | None, background: Background
) -> pd.Series | None:
    """A label by sample_id: of this split's own, of one that has it as a label, of the table's."""
    own = [pd.Series(background.folds[name])] if name in background.folds else []
    others = [pd.Series(labels) for labels in background.folds.values()]
    own += [labels for labels in others if name in set(labels.astype("str"))]
    if own:
        labels = as_train(own[0].dropna().astype("str"))
        labels.index = labels.index.astype("str")
        return labels[~labels.index.duplicated()]
    if samples is not None and "split" in samples and not TRAINING.search(name):
        words = as_train(samples["split"].astype("str")).to_numpy()
        known = np.isin(words, ["train", name])
        if (words == "train").any() and (words == name).any():
            ids = samples["sample_id"].astype("str").to_numpy()[known]
            labels = pd.Series(words[known], index=ids)
            # A sample that stands on both sides trains.
            return (
                labels.sort_values(key=lambda w: w != "train", kind="stable")
                .groupby(level=0)
                .first()
            )
    return None


def as_train(words: pd.Series) -> pd.Series:
    """Labels in which "Training set" and its like read "train"."""
    names = {word: "train" for word in words.unique() if TRAINS.search(word)}
    return words.map(lambda word: names.get(word, word)) if names else words.copy()


def is_leaky(claim: str) -> bool:
    """Whether a claim says that held-out samples are no test."""
    return claim.startswith(LEAKY)


def weakest(claims: list[str]) -> str:
    """The claim that all of them allow."""
    ranks = {claim: rank for rank, claim in enumerate(RANKS)}
    return min(claims, key=lambda claim: ranks.get(claim, -1)) if claims else NOT_AUDITABLE


def audit_table(audits: dict[str, Audit], predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a split: its claim, and the checks that failed with what they found."""
    n = predictions["split"].astype("str").value_counts()
    rows: list[tuple] = []
    for name, audit in audits.items():
        if isinstance(audit, NotAudited):
            rows.append((name, audit.claim(), False, n[name], "", audit.reason))
            continue
        failed = [c for c in audit.checks if c.status == "fail"]
        words = "; ".join(f"{c.name}: {c.detail}" for c in failed)
        names = ", ".join(c.name for c in failed)
        rows.append((name, audit.claim(), True, n[name], names, words))
    return pd.DataFrame(rows, columns=list(AUDIT))


def shared_pixels(
    stations: pd.DataFrame, rows: pd.DataFrame, *, background: Background
) -> pd.DataFrame:
    """Networks whose stations stand together in pixels of a coarse product.

    Pixels are those of the products' grids, and, where the features hold a coarse product, the
    groups of stations to which it gives one series.

    Parameters
    ----------
    stations : stations table of the scored stations
    rows : scored predictions, for the samples of ``background.features``
    background : Background

    Returns
    -------
    DataFrame: ``pixel`` (the product and its grid), ``network, n_stations`` (of it, with a known
    pixel), ``n_pixels`` (that hold them), ``n_sharing`` (stations in one pixel with another),
    ``stations`` (three of these)
    """
    places = stations.drop_duplicates("station_id")
    places = places.set_index(places["station_id"].astype("str"))
    located = places[places[["latitude", "longitude"]].notna().all(axis=1)]
    cells = {name: _cells(located, size) for name, size in PIXELS.items() if len(located)}
    for column in background.coarse_columns:
        if background.features is not None and column in background.features:
            cells[f"{column} {ONE_SERIES}"] = _same_series(rows, background.features, column)
    found: list[tuple] = []
    for pixel, cell in cells.items():
        network = places["network"].astype("str").reindex(cell.index)
        for name, own in cell.groupby(network):
            sharing = own[own.duplicated(keep=False)]
            if len(sharing):
                words = ", ".join(sharing.index[:3]) + (", ..." if len(sharing) > 3 else "")
                found.append((pixel, name, len(own), own.nunique(), len(sharing), words))
    return pd.DataFrame(found, columns=list(SHARED))


def _cells(places: pd.DataFrame, size: float) -> pd.Series:
    """The pixel of each station, by station_id."""
    if size == 9:
        lonlat = (places[name].to_numpy(float) for name in ("longitude", "latitude"))
        row, col = grids.ease2_cell(*lonlat, pixel_size_km=9)
        return pd.Series(row * 10**5 + col, index=places.index)
    return pd.Series(splits.block_ids(places, size_deg=size).to_numpy(), index=places.index)


def _same_series(rows: pd.DataFrame, features: pd.DataFrame, column: str) -> pd.Series:
    """A number per station_id, equal where a feature's series are copies of each other."""
    known = features.assign(sample_id=features["sample_id"].astype("str"))
    known = known.drop_duplicates("sample_id").set_index("sample_id")[column]
    once = rows.drop_duplicates("sample_id")
    values = known.reindex(once["sample_id"].astype("str")).to_numpy(float)
    units, names = pd.factorize(once["station_id"].astype("str"), sort=True)
    pairs = copied_series(units, once["time"], values=values)
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(names), len(names)))
    return pd.Series(connected_components(graph, directed=False)[1], index=names)
