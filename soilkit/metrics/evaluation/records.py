"""What an evaluation is asked, which rows it scores, what each split allows to claim."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from soilkit import contracts, grids
from soilkit.constants import MIN_SAMPLES
from soilkit.errors import ContractError
from soilkit.metrics import splits
from soilkit.metrics.evaluation.applicability import TraitSpace
from soilkit.metrics.splits import leakage as report_module
from soilkit.metrics.splits.checks import LADDER, TIMES, copied_series
from soilkit.metrics.splits.leakage import AuditReport

OK = "ok"
SCORED = "scored"
NOT_AUDITABLE = "not auditable: the training stations are unknown"
UNSEEN_CLAIMS = ("unseen stations", "unseen places", "unseen networks")


@dataclass(frozen=True)
class Options:
    """How an evaluation is made.

    Attributes
    ----------
    min_samples : a sensor with fewer pairs is not scored
    seed : of every resampling
    metrics : further scores: "spearman", "kge"
    every : length of a date for spatial skill, "1D"; "" takes a day, or the table's longer step
    rescaling : methods of ``metrics.rescale``
    baselines : ``{"smap": model, "gldas": model, "climatology": model}``; found by name otherwise
    by : columns of the stations table that make strata
    traits : numeric columns of the stations table; none named takes all of them
    worst : how many stations to list
    """

    min_samples: int = MIN_SAMPLES
    seed: int = 0
    metrics: tuple[str, ...] = ("spearman", "kge")
    every: str = ""
    rescaling: tuple[str, ...] = ("mean_std",)
    baselines: Mapping[str, str] = field(default_factory=dict)
    by: tuple[str, ...] = ("network", "land_cover", "texture", "koeppen")
    traits: tuple[str, ...] = ()
    worst: int = 10


@dataclass(frozen=True)
class Background:
    """What is known beside the predictions; every part may lack.

    Attributes
    ----------
    notes : what ``foreign.read_predictions`` noted
    folds : by split, a label of each sample, indexed by ``sample_id``: folds that are held out in
        turn, or "train", "validation" and "test"
    samples : every labelled sample, those that train too; None = the predictions
    features : what the model eats, a row a ``sample_id``
    training_features : rows that trained, with ``station_id`` where known; None = each fold's
        predictions are measured against the features of the other folds
    predictors : columns of the features that make the distance from training
    coarse_columns : columns that hold a coarse product, for the audit
    fitted_on : as ``splits.audit`` takes it
    sources : by model, the catalogue names of what went into it; triple collocation needs them
    provenance : rows for the protocol box, such as ``{"flags": "G only"}``
    """

    notes: pd.DataFrame | None = None
    folds: Mapping[str, pd.Series | Mapping[str, object]] = field(default_factory=dict)
    samples: pd.DataFrame | None = None
    features: pd.DataFrame | None = None
    training_features: pd.DataFrame | None = None
    predictors: tuple[str, ...] = ()
    coarse_columns: tuple[str, ...] = ()
    fitted_on: Iterable | Mapping | None = None
    sources: Mapping[str, Iterable[str]] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NotAudited:
    """A split that no audit was made of, and why; ``words`` is all that may be claimed."""

    split: str
    reason: str
    words: str = NOT_AUDITABLE

    def claim(self) -> str:
        """What a result on this split may be called."""
        return self.words

    def __str__(self) -> str:
        return f"Leakage audit of {self.split}: {self.words} ({self.reason})"

    def _repr_html_(self) -> str:
        return f"<b>Leakage audit of {self.split}: {self.words}</b><p>{self.reason}</p>"


@dataclass(frozen=True)
class Applicability:
    """How far inputs lie from training: ``measured`` a row a prediction, ``skill`` a row a bin.

    ``share_inside`` is the mean over stations of the share of predictions inside the area, with
    the interval that resamples 2-degree blocks.
    """

    status: str
    measured: pd.DataFrame = field(default_factory=pd.DataFrame)
    skill: pd.DataFrame = field(default_factory=pd.DataFrame)
    share_inside: tuple[float, float, float] = (float("nan"),) * 3
    median_index: float = float("nan")
    threshold: float = float("nan")


@dataclass(frozen=True)
class Calibration:
    """The tables of ``metrics.reliability``, ``sharpness`` and ``spread_skill``."""

    status: str
    reliability: pd.DataFrame = field(default_factory=pd.DataFrame)
    sharpness: pd.DataFrame = field(default_factory=pd.DataFrame)
    spread_skill: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class Failures:
    """Classes better or worse than the rest, the worst stations, and the space of static traits."""

    status: str
    classes: pd.DataFrame
    worst: pd.DataFrame
    traits: TraitSpace | None
    traits_status: str


@dataclass(frozen=True)
class Evaluation:
    """Every table of an evaluation. One that could not be made has one row and ``status`` only.

    Attributes
    ----------
    label : name of the data; "synthetic" in it marks every sentence
    main : the model that is judged, and ``models`` all of them, it first
    handed_in : rows of the table as it came
    unseen : the rows scored, ``split`` "scored" and the table's own word in ``given_split``
    losses : ``step, reason, n_rows`` (lost), ``n_left, n_stations_left``
    claim : what the weakest audit of the splits that were scored allows to say of the main model
    spatial_mean : mean R over dates by model and part, with an interval over 2-degree blocks
    errors : ubRMSE and RMSE over the observations' own standard deviation, geometric mean over
        sensors, and their sizes
    """

    label: str
    main: str
    models: list[str]
    options: Options
    background: Background
    stations: pd.DataFrame
    handed_in: int
    unseen: pd.DataFrame
    losses: pd.DataFrame
    claim: str
    audits: dict[str, AuditReport | NotAudited]
    audit_table: pd.DataFrame
    scores: pd.DataFrame
    overall: pd.DataFrame
    by_block: pd.DataFrame
    errors: pd.DataFrame
    strata: dict[str, pd.DataFrame]
    comparison: pd.DataFrame
    wins: pd.DataFrame
    wins_by_class: pd.DataFrame
    anomaly: pd.DataFrame
    rescaled: pd.DataFrame
    spatial: pd.DataFrame
    spatial_mean: pd.DataFrame
    spatial_parts: pd.DataFrame
    applicability: Applicability
    calibration: Calibration
    failures: Failures
    literature: pd.DataFrame
    triple: pd.DataFrame
    shared_pixels: pd.DataFrame

    @property
    def is_unseen(self) -> bool:
        """Whether the scored stations may be called unseen at all."""
        return self.claim.startswith(UNSEEN_CLAIMS)

    @property
    def is_synthetic(self) -> bool:
        """Whether the data are a made-up world."""
        return "synthetic" in self.label.lower()

    @property
    def main_scores(self) -> pd.DataFrame:
        """The scores of the main model, a row a sensor."""
        return self.scores[self.scores["model"] == self.main]


def missing(reason: str) -> pd.DataFrame:
    """The table of a part that could not be made."""
    return pd.DataFrame({"status": [reason]})


def is_missing(table: pd.DataFrame) -> bool:
    """Whether a part could not be made; its ``status`` says why."""
    return list(table.columns) == ["status"]


# From the rows handed in to the rows scored: every row that is lost has a reason.

# "train", "training set", "train 2019"; not "trained on 2019, tested on 2020".
TRAINS = re.compile(
    r"^train(?:ing|ed)?(?:[ _-]*(?:set|rows?|samples?|data|split|part|fold|stations|\d+))*$",
    re.IGNORECASE,
)
TRAINING = re.compile(
    rf"{TRAINS.pattern}|(?<!\bnot )(?<!\bnon[ -])(?<!\bun)(?<!\bno )\bleak(?:y|ing|s)?\b"
    r"|\brandom[ _-]?rows?\b|\brows?[ _-]at[ _-]random\b",
    re.IGNORECASE,
)
GIVEN = "given_split"
TRAINED = "a split that trains or leaks"
REPEATED = "the same model and sample again"
NO_OBSERVATION = "no observation"
NO_PREDICTION = "no finite prediction"


class Sifted(NamedTuple):
    """``unseen`` the rows scored, ``candidates`` those before pairs were asked for, ``losses``."""

    unseen: pd.DataFrame
    candidates: pd.DataFrame
    losses: pd.DataFrame
    handed_in: int


def check_predictions(predictions: pd.DataFrame) -> None:
    """Raise unless the columns are those of the contract; repeated keys are sifted out later.

    Raises
    ------
    ContractError
    """
    schema = contracts.PREDICTIONS
    contracts.check(predictions, contracts.Table(schema.name, schema.columns))
    if not len(predictions):
        raise ContractError("The predictions table has no rows: there is nothing to evaluate.")
    for name in ("model", "split", "sensor_id", "station_id", "time"):
        n = int(predictions[name].isna().sum())
        if n:
            raise ContractError(f"{n} predictions have no {name}; fill it in, or drop those rows.")


def sift(
    predictions: pd.DataFrame,
    main: str,
    *,
    leaky: set[str],
    options: Options,
    notes: pd.DataFrame | None = None,
    clean: frozenset[str] | set[str] = frozenset(),
) -> Sifted:
    """Drop what must not be scored, step by step, and count it.

    Parameters
    ----------
    predictions : checked table
    main : model; where all of its splits train or leak they are kept, since nothing else is there
    leaky : splits that an audit calls leaky, beside those whose name says so
    options : Options
    notes : of a foreign reader, whose own losses come first
    clean : splits that an audit cleared, whatever their name says
    """
    steps = _Steps(predictions, notes)
    table = predictions.reset_index(drop=True)
    table = steps.drop(table, _trained(table, main, leaky=leaky, clean=clean), reason=TRAINED)
    table = steps.drop(table, _repeated(table), reason=REPEATED)
    table = table.assign(**{GIVEN: table["split"].astype("str"), "split": SCORED})
    candidates = table
    observed = np.isfinite(table["observed_m3_m3"].to_numpy(float))
    table = steps.drop(table, ~observed, reason=NO_OBSERVATION)
    predicted = np.isfinite(table["predicted_m3_m3"].to_numpy(float))
    table = steps.drop(table, ~predicted, reason=NO_PREDICTION)
    keys = [table[name].astype("str") for name in ("model", "sensor_id")]
    n = table.groupby(keys)["sample_id"].transform("size")
    reason = f"a sensor with fewer than {options.min_samples} pairs of a model"
    table = steps.drop(table, n < options.min_samples, reason=reason)
    return Sifted(table, candidates, steps.table(), steps.handed_in)


def _repeated(table: pd.DataFrame) -> pd.Series:
    """Rows of a model and sample that another row stands for: the first one that is a pair."""
    pair = np.isfinite(table[["observed_m3_m3", "predicted_m3_m3"]].to_numpy(float)).all(axis=1)
    ids = {name: table[name].astype("str") for name in ("model", "sample_id")}
    ordered = pd.DataFrame(ids).iloc[np.argsort(~pair, kind="stable")]
    return ordered.duplicated().sort_index()


def _trained(table: pd.DataFrame, main: str, *, leaky: set[str], clean) -> pd.Series:
    """Rows to leave out, (row,): the strictest choice that leaves the main model something.

    Training rows go before those of leaky splits stay, and all stay where there is nothing else.
    """
    words = table["split"].astype("str")
    named = {word: bool(TRAINING.search(word)) and word not in clean for word in words.unique()}
    named = words.map(named).astype(bool)
    own = table["model"].astype("str") == main
    for bad in (named | words.isin(leaky), named):
        if (own & ~bad).any():
            return bad
    return named & False


class _Steps:
    """The funnel: what each step took, and what it left."""

    def __init__(self, predictions: pd.DataFrame, notes: pd.DataFrame | None) -> None:
        dropped = notes[notes["n_dropped"] > 0] if notes is not None and len(notes) else None
        lost = 0 if dropped is None else int(dropped["n_dropped"].sum())
        self.handed_in = len(predictions) + lost
        n_stations = predictions["station_id"].nunique()
        self.lines = [("handed in", "rows of the table as it came", 0, self.handed_in, -1)]
        left = self.handed_in
        for row in [] if dropped is None else dropped.itertuples():
            left -= int(row.n_dropped)
            reason = f"{row.status}: {row.detail}"
            self.lines.append(("read", reason, int(row.n_dropped), left, -1))
        first = self.lines[-1]
        self.lines[-1] = (*first[:4], n_stations)

    def drop(self, table: pd.DataFrame, bad, *, reason: str) -> pd.DataFrame:
        bad = np.asarray(bad, bool)
        kept = table[~bad].reset_index(drop=True)
        n_stations = kept["station_id"].nunique()
        self.lines.append(("sift", reason, int(bad.sum()), len(kept), n_stations))
        return kept

    def table(self) -> pd.DataFrame:
        found = pd.DataFrame(
            self.lines, columns=["step", "reason", "n_rows", "n_left", "n_stations_left"]
        )
        unknown = found["n_stations_left"] < 0  # a reader counts rows, not the stations they had
        found["n_stations_left"] = found["n_stations_left"].astype("Int64").mask(unknown)
        return found


def completed(stations: pd.DataFrame | None, predictions: pd.DataFrame) -> pd.DataFrame:
    """The stations of the predictions, those unknown to the table with empty places and classes."""
    columns = {c.name: c.kind for c in contracts.STATIONS.columns}
    ids = ["sensor_id", "station_id", "network"]
    seen = predictions[ids].astype("str").drop_duplicates("sensor_id")
    seen = seen.assign(station=seen["station_id"])
    if stations is None:
        table = seen
    else:
        if "station_id" not in stations:
            raise ContractError("The stations table has no station_id: whose places are these?")
        table = stations.copy(deep=False)
        if "sensor_id" not in table:
            table = seen[["sensor_id", "station_id"]].merge(
                table.assign(station_id=table["station_id"].astype("str")), on="station_id"
            )
        lost = seen[~seen["station_id"].isin(table["station_id"].astype("str"))]
        table = pd.concat([table, lost], ignore_index=True) if len(lost) else table
    for name, kind in columns.items():
        if name not in table:
            table[name] = np.nan if kind == "float" else ""
        elif kind == "string" and name not in ids:
            table[name] = table[name].astype("str").where(table[name].notna(), "")
    return table.reset_index(drop=True)


# What each split of a predictions table allows to claim, and what its stations share.

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


# Which samples trained for which predictions, split by split and fold by fold.


class Turn(NamedTuple):
    """``held_out`` positions of predictions, and ``trained``: folds by the ids that trained."""

    held_out: np.ndarray
    trained: pd.Series


def turns(own: pd.DataFrame, background: Background) -> list[Turn]:
    """One model's predictions by what trained for them, each by the folds of its own split.

    Parameters
    ----------
    own : predictions of one model with ``given_split``
    background : Background with ``samples``

    Raises
    ------
    ContractError
        Where the folds of a split, or of one of its samples, are not known.
    """
    ids, words = own["sample_id"].astype("str"), own[GIVEN].astype("str")
    found = []
    for name in words.unique():
        labels = labels_of(name, samples=background.samples, background=background)
        mine = None if labels is None else ids.map(labels).where(words == name)
        if labels is None or mine is None or mine[words == name].isna().any():
            raise ContractError(f"nobody said which samples trained for the split {name!r}")
        has_side = bool((labels == "train").any())
        for fold in mine.dropna().unique():
            trained = labels[labels == "train"] if has_side else labels[labels != fold]
            trained = trained[~trained.index.isin(ids[mine == fold])]
            if not len(trained):
                raise ContractError(f"no sample trained for the split {name!r}, fold {fold}")
            found.append(Turn(np.flatnonzero(mine == fold), trained))
    return found


# An answer of the first page, its grades, and how far a split lets it stand.

YES, PARTLY, NO, UNKNOWN = "yes", "partly", "no", "unknown"
GOOD_R = 0.5  # a quarter of the variance


class Answer(NamedTuple):
    """One line of the first page."""

    question: str
    answer: str
    grade: str
    evidence: str


def capped(answer: Answer, evaluation: Evaluation) -> Answer:
    """The answer as far as the split lets it stand."""
    if is_leaky(evaluation.claim) and answer.grade in (YES, PARTLY):
        words = f"would be {answer.grade!r}, but the samples are no test: {answer.answer}"
        return answer._replace(answer=words, grade=UNKNOWN)
    if not evaluation.is_unseen and answer.grade == YES:
        known = evaluation.claim != NOT_AUDITABLE
        tail = "but at stations that also trained" if known else "if the places are unseen"
        words = f"{answer.answer}; {tail}"
        return answer._replace(answer=words, grade=PARTLY)
    return answer
