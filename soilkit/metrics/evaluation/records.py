"""What an evaluation is made of, what it answers, and the words of its grades."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from soilkit.constants import MIN_SAMPLES, OK
from soilkit.errors import ContractError
from soilkit.metrics.evaluation.applicability import TraitSpace
from soilkit.metrics.splits.checks import Claim
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
