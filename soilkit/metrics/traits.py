"""Places by their static traits in two dimensions, with the failures marked among them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from soilkit.errors import ContractError
from soilkit.metrics import bootstrap
from soilkit.metrics.failures import ERRORS, require_columns, site_means
from soilkit.metrics.resampling import cluster_names, limits, ratio_draws
from soilkit.metrics.stations import OK

WORST_SHARE = 0.25


@dataclass(frozen=True)
class TraitSpace:
    """Three tables ready for plotting.

    ``places``: one row a station: ``station_id``, ``pc1, pc2, ...`` (NaN where a trait is unknown),
    ``<column>_z`` (standardised), ``value``, ``baseline_value``, ``failed`` (None without a
    score) and ``status``. ``loadings``: one row a column: ``column, trait, pc1, ...``, its ``mean``
    and ``std``, ``failed_z`` (mean over failed stations, in standard deviations) with
    ``failed_z_lower, failed_z_upper``, ``n_failed`` and ``status``. ``explained``: ``component,
    variance, share, cumulative``.
    """

    places: pd.DataFrame
    loadings: pd.DataFrame
    explained: pd.DataFrame


def trait_space(
    station_scores: pd.DataFrame,
    stations: pd.DataFrame,
    *,
    traits: Iterable[str],
    metric: str = "ubrmse_m3_m3",
    baseline: pd.DataFrame | None = None,
    seed: int = 0,
) -> TraitSpace:
    """Principal components of static traits over all stations, failures marked, after [1]_.

    Numbers are standardised; a text trait enters as one column a class, (1 - p) / sqrt(p) inside
    and -sqrt(p) outside a class of share p, so that classes and numbers weigh alike [2]_. A station
    failed where its score is worse than the baseline's (the paper's: than SMAP's), or without a
    baseline where it is in the worst quarter. Stations lacking a trait are left out by status, and
    constant traits too.

    Parameters
    ----------
    station_scores : from ``station_scores``, one model and split
    stations : stations table with the columns ``traits``; all of it makes the space
    traits : columns, numbers or text
    metric : a score's name
    baseline : ``station_scores`` of the model to beat
    seed : int, of the intervals over 2-degree blocks

    Raises
    ------
    ContractError
        For several models, missing columns, or fewer than three stations with every trait.

    References
    ----------
    .. [1] Poehls et al. (2024), SSRN 4743411, section 4.5, Fig. 13 and Table 5
    .. [2] Pages (2014), Multiple Factor Analysis by Example Using R, chapter 3
    """
    traits = list(traits)
    require_columns(stations, traits)
    known = stations.drop_duplicates("station_id").reset_index(drop=True)
    columns, complete = _columns(known, traits)
    z, mean, std = _standardised(columns, complete)
    variance, axes = _components(z[complete])
    places = pd.DataFrame({"station_id": known["station_id"].astype("str")})
    for k in range(min(2, len(variance))):
        places[f"pc{k + 1}"] = z @ axes[k]
    places[[f"{name}_z" for _, name in columns.columns]] = z
    places = places.assign(**_failed(places["station_id"], station_scores, metric, baseline))
    places["status"] = np.select(
        [~complete, places["value"].isna().to_numpy(), places["failed"].isna().to_numpy()],
        ["unknown trait", "no score", "no baseline score"],
        default=OK,
    )
    loadings = pd.DataFrame(
        {"column": [name for _, name in columns.columns], "trait": [t for t, _ in columns.columns]}
    )
    for k in range(min(2, len(variance))):
        loadings[f"pc{k + 1}"] = axes[k]
    loadings = loadings.assign(mean=mean, std=std, **_contrast(places, z, stations, seed))
    loadings.loc[std == 0, "status"] = "constant: no part in it"
    return TraitSpace(places, loadings, _explained(variance))


def _columns(known, traits):
    """Numeric columns (trait, name), text as classes, and which stations have every trait."""
    parts, complete = {}, np.ones(len(known), bool)
    for trait in traits:
        if pd.api.types.is_numeric_dtype(known[trait]):
            parts[(trait, trait)] = known[trait].astype(float)
            complete &= np.isfinite(known[trait].astype(float)).to_numpy()
        else:
            text = known[trait].astype(object).where(known[trait].notna(), "").astype(str)
            complete &= (text.str.strip() != "").to_numpy()
            for name in sorted(set(text[complete])):
                parts[(trait, f"{trait}={name}")] = (text == name).astype(float)
    if complete.sum() < 3:
        n = int(complete.sum())
        raise ContractError(f"Components need three stations with every trait, found {n}.")
    table = pd.DataFrame(parts)
    table.columns = pd.MultiIndex.from_tuples(parts)
    return table, complete


def _standardised(columns, complete):
    """z (station, column), NaN where incomplete; means and standard deviations over the rest."""
    values = columns.to_numpy(float)
    kept = values[complete]
    mean, std = kept.mean(axis=0), kept.std(axis=0)
    is_class = np.array([trait != name for trait, name in columns.columns])
    scale = np.where(is_class, np.sqrt(np.abs(mean)), std)
    constant = np.ptp(kept, axis=0) == 0
    std = np.where(constant, 0.0, std)
    z = (values - mean) / np.where(constant | (scale == 0), 1, scale)
    z[:, constant] = 0
    z[~complete] = np.nan
    return z, mean, std


def _components(z):
    """Variances (component,) and axes (component, column), each with its largest part positive."""
    _, singular, axes = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return singular**2 / len(z), axes * np.sign(largest)


def _explained(variance):
    share = variance / variance.sum() if variance.sum() > 0 else np.zeros(len(variance))
    return pd.DataFrame(
        {"component": np.arange(1, len(variance) + 1), "variance": variance, "share": share,
         "cumulative": np.cumsum(share)}
    )  # fmt: skip


def _failed(station_ids, scores, metric, baseline):
    value = station_ids.map(_one(scores, metric))
    sign = 1 if metric in ERRORS else -1
    if baseline is None:
        rank = (-sign * value).rank(method="first")
        failed = rank <= np.ceil(WORST_SHARE * value.notna().sum())
        return {"value": value, "baseline_value": np.nan,
                "failed": failed.where(value.notna(), None).astype("boolean")}  # fmt: skip
    other = station_ids.map(_one(baseline, metric))
    both = value.notna() & other.notna()
    failed = (sign * value > sign * other).where(both, None).astype("boolean")
    return {"value": value, "baseline_value": other, "failed": failed}


def _one(scores, metric):
    sites = site_means(scores, metric=metric)
    kinds = sites[["model", "split"]].drop_duplicates()
    if len(kinds) != 1:
        found = "; ".join(f"{m}, {s}" for m, s in kinds.to_numpy()) or "none with a score"
        raise ContractError(f"One model in one split is wanted, found {found}. Select its rows.")
    return sites.set_index("station_id")["value"]


def _contrast(places, z, stations, seed):
    """Mean of each standardised column over the failed stations, with limits over blocks."""
    failed = places["failed"].fillna(False).to_numpy(bool) & np.isfinite(z).all(axis=1)
    lower = upper = mean = np.full(z.shape[1], np.nan)
    status = "no failed station in this space"
    if failed.any():
        mean = z[failed].mean(axis=0)
        cluster = cluster_names(places[failed], stations)
        k = len(set(cluster))
        status = f"no interval: {k} blocks < {bootstrap.MIN_CLUSTERS}"
        if k >= bootstrap.MIN_CLUSTERS:
            rng = np.random.default_rng(seed)
            ones = np.ones((failed.sum(), 1))
            draws = ratio_draws(z[failed], ones, cluster=cluster, rng=rng)
            lower, upper = limits(draws, n_clusters=k)
            status = OK
    return {
        "failed_z": mean, "failed_z_lower": lower, "failed_z_upper": upper,
        "n_failed": int(failed.sum()), "status": status,
    }  # fmt: skip
