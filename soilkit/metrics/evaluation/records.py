"""What an evaluation was given and found, and how predictions become the rows that are judged."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from soilkit import contracts
from soilkit.constants import MIN_SAMPLES, OK
from soilkit.errors import ContractError
from soilkit.metrics import splits
from soilkit.metrics.evaluation.applicability import TraitSpace
from soilkit.metrics.splits.checks import Claim, copied_series
from soilkit.metrics.splits.folds import ease2_ids
from soilkit.metrics.splits.leakage import AuditReport

GIVEN = "given_split"  # the table's own word for the split of a scored row

# The words of the page. Rules compare members, readers see the words: rewording changes no grade.


class Grade(StrEnum):
    """How far an answer of the first page holds."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"
    UNKNOWN = "unknown"


class Fulfilment(StrEnum):
    """How far a requirement of the checklist is met."""

    DONE = "done"
    PARTLY = "partly"
    NOT_DONE = "not done"
    NOT_APPLICABLE = "not applicable"


class Finding(StrEnum):
    """What an answer begins with, where another rule asks for it."""

    PLAIN = ""
    REFUTED = "no: "
    UNDECIDED = "undecided: "
    NOT_COMPARED = "not compared"
    LEVELS_WRONG = "swings yes, levels no; "


class Stage(NamedTuple):
    """The CEOS validation stage that the figures correspond to, and why not another."""

    number: int
    why: str


@dataclass(frozen=True)
class Background:
    """What is known beside the predictions; every part may lack.

    Attributes
    ----------
    notes : what ``tables.read_predictions`` noted
    folds : by split, a label of each sample, indexed by ``sample_id``: folds that are held out in
        turn, or "train", "validation" and "test"
    samples : every labelled sample, those that train too; None = the predictions
    features : what the model eats, a row a ``sample_id``
    predictors : columns of the features that make the distance from training
    coarse_columns : columns that hold a coarse product, for the audit
    fitted_on : what means, scalings and climatologies were fitted on, as in ``splits.audit``
    sources : by model, the catalogue names of what went into it; triple collocation needs them
    provenance : rows for the protocol box, such as ``{"flags": "G only"}``
    """

    notes: pd.DataFrame | None = None
    folds: Mapping[str, pd.Series | Mapping[str, object]] = field(default_factory=dict)
    samples: pd.DataFrame | None = None
    features: pd.DataFrame | None = None
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
    level: Claim = Claim.NOT_AUDITABLE
    words: str = ""

    def claim(self) -> str:
        """What a result on this split may be called."""
        return self.words or self.level.value

    def __str__(self) -> str:
        return f"Leakage audit of {self.split}: {self.claim()} ({self.reason})"


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
    """The tables of ``metrics.reliability`` and ``metrics.spread_skill``."""

    status: str
    reliability: pd.DataFrame = field(default_factory=pd.DataFrame)
    spread_skill: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class Failures:
    """Classes beside the rest, the worst stations, and the space of static traits."""

    classes: pd.DataFrame
    worst: pd.DataFrame
    traits: TraitSpace | None
    traits_status: str

    @property
    def status(self) -> str:
        """ "ok", or why no class could be judged."""
        return str(self.classes["status"].iloc[0]) if is_missing(self.classes) else OK


@dataclass(frozen=True)
class Case:
    """What every part of an evaluation is made of.

    Attributes
    ----------
    main : the model that is judged
    unseen : the rows scored, ``split`` "scored" and the table's own word in ``given_split``
    scores : of every sensor and model, those with too few pairs too
    stations : stations table of all that are scored
    """

    main: str
    unseen: pd.DataFrame
    scores: pd.DataFrame
    stations: pd.DataFrame
    background: Background
    min_samples: int = MIN_SAMPLES
    seed: int = 0

    @property
    def rows(self) -> pd.DataFrame:
        """The rows scored, of every model, as a predictions table."""
        return self.unseen.drop(columns=GIVEN)

    @property
    def pairs(self) -> pd.DataFrame:
        """The rows of the main model that are scored."""
        return self.unseen[self.unseen["model"].astype("str") == self.main]

    @property
    def main_scores(self) -> pd.DataFrame:
        """The scores of the main model, a row a sensor."""
        return self.scores[self.scores["model"] == self.main]

    @property
    def used_stations(self) -> pd.DataFrame:
        """The rows of the stations table whose sensors are scored for the main model."""
        return self._stations_of(self.pairs, "sensor_id")

    @property
    def places(self) -> pd.DataFrame | None:
        """The stations, where all that are scored have a place: then blocks can be drawn."""
        used = self._stations_of(self.scores, "station_id")[["latitude", "longitude"]]
        return self.stations if len(used) and used.astype(float).notna().all(axis=None) else None

    @property
    def unit(self) -> str:
        """What a bootstrap draws: "block" or "network"."""
        return "network" if self.places is None else "block"

    def located(self) -> pd.DataFrame:
        """The stations, or ContractError where a place lacks."""
        if self.places is None:
            raise ContractError("2-degree blocks need the place of every scored station")
        return self.stations

    def known(self, names: Iterable[str]) -> list[str]:
        """The columns of classes that are known of any scored sensor's station."""
        used = self._stations_of(self.scores, "sensor_id")
        return [n for n in names if n in used and used[n].astype("str").str.strip().ne("").any()]

    def _stations_of(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        ids = set(table[name].astype("str"))
        return self.stations[self.stations[name].astype("str").isin(ids)]


@dataclass(frozen=True, kw_only=True)
class Evaluation(Case):
    """Every table of an evaluation. One that could not be made has one row and ``status`` only.

    Attributes
    ----------
    label : name of the data; "synthetic" in it marks every sentence
    models : all of them, the main one first
    handed_in : rows of the table as it came
    losses : ``step, reason, n_rows`` (lost), ``n_left, n_stations_left``
    weakest : the audit, of the splits that were scored, that allows least to say of the main model
    spatial_mean : mean R over dates by model and part, with an interval over 2-degree blocks
    errors : ubRMSE and RMSE over the observations' own standard deviation, geometric mean over
        sensors, and their sizes
    """

    label: str
    models: list[str]
    handed_in: int
    losses: pd.DataFrame
    weakest: AuditReport | NotAudited
    audits: dict[str, AuditReport | NotAudited]
    audit_table: pd.DataFrame
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

    def first(self, table: pd.DataFrame, n: int | None = 2) -> pd.DataFrame:
        """The table's rows of the first ``n`` models (None: all), the judged one on top."""
        if is_missing(table):
            return table
        rows, place = table[table["model"].isin(self.models[:n])], pd.Index(self.models).get_indexer
        return rows.sort_values("model", key=lambda m: place(m.astype("str")), kind="stable")

    @property
    def claim(self) -> str:
        """What the scores may be called, in words."""
        return self.weakest.claim()

    @property
    def level(self) -> Claim:
        """What the scores may be called."""
        return self.weakest.level

    @property
    def is_unseen(self) -> bool:
        """Whether the scored stations may be called unseen at all."""
        return self.level.is_unseen

    @property
    def is_synthetic(self) -> bool:
        """Whether the data are a made-up world."""
        return "synthetic" in self.label.lower()

    @property
    def scored_splits(self) -> pd.DataFrame:
        """The audit's lines of the splits that the main model is scored on."""
        return self.audit_table[self.audit_table["is_scored"]]


def missing(reason: str, *, is_refused: bool = False) -> pd.DataFrame:
    """The table of a part that could not be made; ``attrs`` say whether it must not be made."""
    table = pd.DataFrame({"status": [reason]})
    table.attrs["is_refused"] = is_refused
    return table


def is_missing(table: pd.DataFrame) -> bool:
    """Whether a part could not be made; its ``status`` says why."""
    return list(table.columns) == ["status"]


# ---- the rows that are judged, and what each split allows to claim -------------------------------


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
SCORED = "scored"  # the split of every row that is scored
LOSSES = ("step", "reason", "n_rows", "n_left", "n_stations_left")
Audit = splits.AuditReport | NotAudited


class Selection(NamedTuple):
    """``unseen`` the rows scored, ``candidates`` those before pairs were asked for, ``losses``."""

    unseen: pd.DataFrame
    candidates: pd.DataFrame
    losses: pd.DataFrame
    handed_in: int


def check_predictions(predictions: pd.DataFrame) -> None:
    """Raise ContractError unless the columns are the contract's; repeated keys are lost later."""
    schema = contracts.PREDICTIONS
    contracts.check(predictions, contracts.Table(schema.name, schema.columns))
    if not len(predictions):
        raise ContractError("The predictions table has no rows: there is nothing to evaluate.")
    for name in ("model", "split", "sensor_id", "station_id", "time"):
        if n := int(predictions[name].isna().sum()):
            raise ContractError(f"{n} predictions have no {name}; fill it in, or drop those rows.")


def select_rows(
    predictions: pd.DataFrame,
    main: str,
    *,
    audits: Mapping[str, Audit],
    min_samples: int = MIN_SAMPLES,
    notes: pd.DataFrame | None = None,
) -> Selection:
    """Drop what must not be scored, step by step, and count it.

    A split that its audit cleared is scored whatever its name says; where all splits of ``main``
    train or leak they are kept. The losses of a reader (``notes``) come first.
    """
    table = predictions.reset_index(drop=True)
    lines = _read_losses(table, notes)
    handed_in = lines[0][3]

    def drop(bad: np.ndarray | pd.Series, reason: str) -> pd.DataFrame:
        kept = table[~np.asarray(bad, bool)].reset_index(drop=True)
        n_stations = kept["station_id"].nunique()
        lines.append(("sift", reason, len(table) - len(kept), len(kept), n_stations))
        return kept

    table = drop(_trained(table, main, audits), "a split that trains or leaks")
    # Of a model's rows of one sample the first that is a pair stands for the others.
    pair = np.isfinite(table[["observed_m3_m3", "predicted_m3_m3"]].to_numpy(float)).all(axis=1)
    ids = table[["model", "sample_id"]].astype("str")
    repeated = ids.iloc[np.argsort(~pair, kind="stable")].duplicated().sort_index()
    table = drop(repeated, "the same model and sample again")
    table = table.assign(**{GIVEN: table["split"].astype("str"), "split": SCORED})
    candidates = table
    table = drop(~np.isfinite(table["observed_m3_m3"].to_numpy(float)), "no observation")
    table = drop(~np.isfinite(table["predicted_m3_m3"].to_numpy(float)), "no finite prediction")
    keys = [table[name].astype("str") for name in ("model", "sensor_id")]
    few = table.groupby(keys)["sample_id"].transform("size") < min_samples
    table = drop(few, f"a sensor with fewer than {min_samples} pairs of a model")
    losses = pd.DataFrame(lines, columns=list(LOSSES)).astype({"n_stations_left": "Int64"})
    return Selection(table, candidates, losses, handed_in)


def _read_losses(table: pd.DataFrame, notes: pd.DataFrame | None) -> list[tuple]:
    """Lines of what was handed in and lost in reading; a reader counts rows, not stations."""
    dropped = [] if notes is None else [row for row in notes.itertuples() if row.n_dropped > 0]
    left = len(table) + sum(int(row.n_dropped) for row in dropped)
    lines = [("handed in", "rows of the table as it came", 0, left, None)]
    for row in dropped:
        left -= int(row.n_dropped)
        lines.append(("read", f"{row.status}: {row.detail}", int(row.n_dropped), left, None))
    lines[-1] = (*lines[-1][:4], table["station_id"].nunique())
    return lines


def _trained(table: pd.DataFrame, main: str, audits: Mapping[str, Audit]) -> pd.Series:
    """Rows to leave out, (row,): the strictest choice that leaves the main model something.

    Training rows go before those of leaky splits stay, and all stay where there is nothing else.
    """
    leaky = {name for name, audit in audits.items() if audit.level.is_leaky}
    clean = {name for name, audit in audits.items() if not isinstance(audit, NotAudited)} - leaky
    words = table["split"].astype("str")
    named = words.isin([w for w in words.unique() if TRAINING.search(w) and w not in clean])
    is_main = table["model"].astype("str") == main
    for bad in (named | words.isin(leaky), named):
        if (is_main & ~bad).any():
            return bad
    return named & False


def completed(stations: pd.DataFrame | None, predictions: pd.DataFrame) -> pd.DataFrame:
    """The stations of the predictions, those unknown to the table with empty places and classes."""
    ids = ["sensor_id", "station_id", "network"]
    seen = predictions[ids].astype("str").drop_duplicates("sensor_id")
    seen = seen.assign(station=seen["station_id"])
    table = seen if stations is None else stations.copy(deep=False)
    if "station_id" not in table:
        raise ContractError("The stations table has no station_id: whose places are these?")
    if "sensor_id" not in table:
        table = seen[["sensor_id", "station_id"]].merge(
            table.assign(station_id=table["station_id"].astype("str")), on="station_id"
        )
    lost = seen[~seen["station_id"].isin(table["station_id"].astype("str"))]
    table = pd.concat([table, lost], ignore_index=True) if len(lost) else table
    for column in contracts.STATIONS.columns:
        name = column.name
        if name not in table:
            table[name] = np.nan if column.kind == "float" else ""
        elif column.kind == "string" and name not in ids:
            table[name] = table[name].astype("str").where(table[name].notna(), "")
    return table.reset_index(drop=True)


# What each split of a predictions table allows to claim, and what its stations share.

PIXELS = {"SMAP, 9 km EASE-Grid 2.0": 9, "SMAP10KM, 0.1 degrees": 0.1, "GLDAS, 0.25 degrees": 0.25}
SHARED = ("pixel", "network", "n_stations", "n_pixels", "n_sharing", "stations")


def audit_splits(
    predictions: pd.DataFrame, stations: pd.DataFrame, *, background: Background
) -> dict[str, Audit]:
    """An audit of every split whose training samples are known, and a refusal of the others."""
    words = predictions["split"].astype("str")
    samples = predictions if background.samples is None else background.samples
    audits: dict[str, Audit] = {}
    for name in words.unique():
        ids = set(predictions.loc[words == name, "sample_id"].astype("str"))
        try:
            audits[name] = _audit(name, ids, samples, stations=stations, background=background)
        except ContractError as error:
            audits[name] = NotAudited(name, str(error))
    return audits


def _audit(name, ids, samples, *, stations, background) -> Audit:
    labels = labels_of(name, samples, background=background)
    if labels is None and TRAINING.search(name):
        words = f"{Claim.LEAKY}: the split is called {name!r}"
        return NotAudited(name, "its name says so", Claim.LEAKY, words)
    if labels is None:
        raise ContractError("no folds or labels of the samples that trained were given")
    trains = ids & set(labels.index[labels == "train"])
    if trains:
        words = f"{Claim.LEAKY}: {len(trains)} scored samples are among those that train"
        return NotAudited(name, "the labels call scored samples 'train'", Claim.LEAKY, words)
    if lost := len(ids - set(labels.index)):
        raise ContractError(f"{lost} of its {len(ids)} samples have no label")
    table = by_sample(samples)
    table = table[table.index.isin(labels.index)].reset_index()
    if lost := len(labels) - len(table):
        reason = f"{lost:,} of {len(labels):,} samples with a label are in no table: their places"
        raise ContractError(f"{reason} may be those that are scored")
    report = splits.audit(
        table,
        labels.reindex(table["sample_id"]).reset_index(drop=True),
        stations=stations,
        features=background.features,
        fitted_on=background.fitted_on,
        held_out=(name,) if name in set(labels) else ("test",),
        coarse_columns=background.coarse_columns,
    )
    return replace(report, split=name)


def labels_of(
    name: str, samples: pd.DataFrame | None, *, background: Background
) -> pd.Series | None:
    """A label by sample_id: of this split's own, of one that has it as a label, of the table's."""
    given = [pd.Series(background.folds[name])] if name in background.folds else []
    others = [pd.Series(labels) for labels in background.folds.values()]
    given += [labels for labels in others if name in set(labels.astype("str"))]
    if given:
        labels = as_train(given[0].dropna().astype("str"))
        labels.index = labels.index.astype("str")
        return labels[~labels.index.duplicated()]
    if samples is None or "split" not in samples or TRAINING.search(name):
        return None
    labels = as_train(samples["split"].astype("str"))
    labels = labels.set_axis(samples["sample_id"].astype("str"))[lambda w: w.isin(["train", name])]
    if set(labels) < {"train", name}:
        return None
    # A sample that stands on both sides trains.
    labels = labels.sort_values(key=lambda word: word != "train", kind="stable")
    return labels.groupby(level=0).first()


def as_train(words: pd.Series) -> pd.Series:
    """Labels in which "Training set" and its like read "train"."""
    return words.replace({word: "train" for word in words.unique() if TRAINS.search(word)})


def weakest(audits: list[Audit]) -> Audit:
    """The audit that allows least; of leaky ones the first."""
    place = {level: -1 if level.is_leaky else n for n, level in enumerate(Claim)}
    nothing = NotAudited("", "no split is scored")
    return min(audits, key=lambda audit: place[audit.level], default=nothing)


def audit_table(audits: dict[str, Audit], predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a split: its claim, and the checks that failed with what they found."""
    columns = ["split", "claim", "auditable", "n_rows", "failed", "detail"]
    n = predictions["split"].astype("str").value_counts()
    rows: list[tuple] = []
    for name, audit in audits.items():
        failed = [check for check in getattr(audit, "checks", ()) if check.status == "fail"]
        words = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        words = audit.reason if isinstance(audit, NotAudited) else words
        names, is_audited = ", ".join(c.name for c in failed), not isinstance(audit, NotAudited)
        rows.append((name, audit.claim(), is_audited, n[name], names, words))
    return pd.DataFrame(rows, columns=columns)


def shared_pixels(case: Case) -> pd.DataFrame:
    """Networks whose scored stations stand together in pixels of a coarse product.

    Pixels are those of the products' grids, and, where the features hold a coarse product, the
    groups of stations to which it gives one series: ``n_pixels`` hold a network's ``n_stations``,
    of which ``n_sharing`` (three of them in ``stations``) stand in one with another.
    """
    ids, features = case.stations["station_id"].astype("str"), case.background.features
    places = case.stations.set_index(ids)[ids.isin(case.unseen["station_id"].astype("str")).array]
    places = places[~places.index.duplicated()]
    located = places[places[["latitude", "longitude"]].notna().all(axis=1)]
    cells = {
        name: ease2_ids(located) if size == 9 else splits.block_ids(located, size_deg=size)
        for name, size in PIXELS.items() if len(located)
    }  # fmt: skip
    for column in case.background.coarse_columns:
        if features is not None and column in features:
            cells[f"{column} (one series)"] = _same_series(case.unseen, features, column)
    lines: list[tuple] = []
    for pixel, cell in cells.items():
        for name, pixels in cell.groupby(places["network"].astype("str").reindex(cell.index)):
            sharing = pixels[pixels.duplicated(keep=False)]
            if len(sharing):
                words = ", ".join(sharing.index[:3]) + (", ..." if len(sharing) > 3 else "")
                counts = (len(pixels), pixels.nunique(), len(sharing))
                lines.append((pixel, name, *counts, words))
    return pd.DataFrame(lines, columns=list(SHARED))


def by_sample(table: pd.DataFrame) -> pd.DataFrame:
    """A table by ``sample_id``, the first row of each."""
    ids = table["sample_id"].astype("str")
    return table.assign(sample_id=ids)[~ids.duplicated()].set_index("sample_id")


def _same_series(rows: pd.DataFrame, features: pd.DataFrame, column: str) -> pd.Series:
    """A number per station_id, equal where a feature's series are copies of each other."""
    once = rows.drop_duplicates("sample_id")
    values = by_sample(features)[column].reindex(once["sample_id"].astype("str")).to_numpy(float)
    units, names = pd.factorize(once["station_id"].astype("str"), sort=True)
    pairs = copied_series(units, once["time"], values=values)
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(names), len(names)))
    return pd.Series(connected_components(graph, directed=False)[1], index=names)


class Fold(NamedTuple):
    """``held_out`` positions of predictions, and ``trained``: labels by the ids that trained."""

    held_out: np.ndarray
    trained: pd.Series


def training_folds(rows: pd.DataFrame, background: Background) -> list[Fold]:
    """One model's predictions by what trained for them, each by the folds of its own split.

    Raises ``ContractError`` where the folds of a split, or of one of its samples, are not known.
    """
    ids, words = rows["sample_id"].astype("str"), rows[GIVEN].astype("str")
    folds = []
    for name in words.unique():
        labels = labels_of(name, background.samples, background=background)
        fold_of = None if labels is None else ids.map(labels).where(words == name)
        if labels is None or fold_of is None or fold_of[words == name].isna().any():
            raise ContractError(f"nobody said which samples trained for the split {name!r}")
        has_side = bool((labels == "train").any())
        for fold in fold_of.dropna().unique():
            trained = labels[labels == "train"] if has_side else labels[labels != fold]
            trained = trained[~trained.index.isin(ids[fold_of == fold])]
            if not len(trained):
                raise ContractError(f"no sample trained for the split {name!r}, fold {fold}")
            folds.append(Fold(np.flatnonzero(fold_of == fold), trained))
    return folds
