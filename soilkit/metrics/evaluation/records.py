"""What an evaluation is asked, what it answers, and the words of its grades."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from soilkit.constants import MIN_SAMPLES
from soilkit.metrics.evaluation.applicability import TraitSpace
from soilkit.metrics.splits.checks import Claim
from soilkit.metrics.splits.leakage import AuditReport

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
    REFUTED = "no"
    UNDECIDED = "undecided"
    NOT_COMPARED = "not compared"
    LEVELS_WRONG = "swings yes, levels no"


class Answer(NamedTuple):
    """One line of the first page; ``finding`` is for other rules and not shown."""

    question: str
    answer: str
    grade: Grade
    evidence: str
    finding: Finding = Finding.PLAIN


class Item(NamedTuple):
    """One requirement of the checklist and how it was met."""

    part: str
    requirement: str
    status: Fulfilment
    evidence: str


class Stage(NamedTuple):
    """The CEOS validation stage that the figures correspond to, and why not another."""

    number: int
    why: str


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
    weakest : the audit, of the splits that were scored, that allows least to say of the main model
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
    weakest: AuditReport | NotAudited
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

    @property
    def main_scores(self) -> pd.DataFrame:
        """The scores of the main model, a row a sensor."""
        return self.scores[self.scores["model"] == self.main]


def missing(reason: str, *, is_refused: bool = False) -> pd.DataFrame:
    """The table of a part that could not be made; ``attrs`` say whether it must not be made."""
    table = pd.DataFrame({"status": [reason]})
    table.attrs["is_refused"] = is_refused
    return table


def is_missing(table: pd.DataFrame) -> bool:
    """Whether a part could not be made; its ``status`` says why."""
    return list(table.columns) == ["status"]
