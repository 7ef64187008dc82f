"""The experiments of Batchu et al. (2022) as lists of trials, run in parallel and resumed."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from soilkit.constants import OK
from soilkit.errors import ContractError, UnknownNameError
from soilkit.studies import FULL
from tests.benchmarks.fusion_trial import ALL, Data, Recipe, Trial, prepare, run_trial
from tests.benchmarks.trials import Job, Rows, run

S1_DEM = "Sentinel-1 + DEM"
S1_DEM_S2 = "Sentinel-1 + DEM + Sentinel-2"
NO_COARSE = "Sentinel-1 + DEM + Sentinel-2 + SoilGrids"
COARSE_NN = "SMAP + GLDAS NN"
RADAR, RADAR_OPTICS = ("sentinel1", "dem"), ("sentinel1", "dem", "sentinel2")
NOTHING: dict[str, Any] = {"high": (), "low": (), "coarse": ()}
# A network on two scalars costs next to nothing a step: it gets enough of them to be a fair rival.
COARSE_STEPS = 5


@dataclass(frozen=True)
class Profile:
    """How large everything is: the trial that others vary, and the data of each recipe.

    ``for_size`` changes the trials of the study of input size, whose largest crops cost most.
    """

    base: Trial
    recipes: Mapping[str, Recipe]
    for_size: Mapping[str, Any] = field(default_factory=dict)


NO_LAI = tuple(s for s in ALL if s != "modis_lai")
RECIPES = {
    "sentinel1": Recipe("sentinel1"),
    "sentinel1_wide": Recipe(
        "sentinel1_wide", n_stations=90, size_px=512, sources=("sentinel1", "sentinel2", "dem")
    ),
    "smap": Recipe("smap", anchor="smap", sources=NO_LAI),
}
PROFILES = {
    # Two cores: some hundred steps of Adam.
    "small": Profile(Trial(), RECIPES, for_size={"batch_size": 8, "steps": 200}),
    # The way of a study, not its result: what a notebook does where none was run.
    "try": Profile(Trial(crop_px=64, batch_size=8, validations=2), RECIPES),
    # Table 7, for a GPU.
    "paper": Profile(
        Trial(
            preset="paper",
            crop_px=256,
            steps=600_000,
            batch_size=64,
            validations=100,
            optimizer="sgd",
            learning_rate=0.05,
            weight_decay=5e-5,
            precision="bfloat16",
        ),
        {name: replace(r, size_px=max(r.size_px, 384)) for name, r in RECIPES.items()},
    ),  # fmt: skip
}


@dataclass(frozen=True)
class Variant:
    """A line of a table: what it changes, and which sources its evaluation goes without.

    ``scaled`` multiplies fields of the profile's trial, ``is_size`` takes its ``for_size``.
    ``printed`` is the paper's label where ours differs, ``reference`` another line than the
    experiment's own to measure the step from.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()
    scaled: Mapping[str, float] = field(default_factory=dict)
    is_size: bool = False
    printed: str = ""
    reference: str = ""

    def trial(self, profile: Profile) -> Trial:
        """The trial that this line makes of a profile's."""
        base = replace(profile.base, **(profile.for_size if self.is_size else {}))
        scaled = {name: getattr(base, name) * by for name, by in self.scaled.items()}
        trial = replace(base, **{**scaled, **self.changes})
        if trial.has_images or "steps" in self.changes:
            return trial
        return replace(trial, steps=base.steps * COARSE_STEPS)


@dataclass(frozen=True)
class Experiment:
    """A table of the paper (or one that it tells in words): lines, a reference line, seeds."""

    name: str
    title: str
    reference: str
    variants: Mapping[str, Variant]
    table: int | None = None
    n_seeds: int = 3

    def reference_of(self, variant: str) -> str:
        """The line that a line's step is measured from."""
        return self.variants[variant].reference or self.reference

    def trials(self, profile: Profile) -> Iterator[tuple[str, Variant, Trial]]:
        """(line, variant, trial) for every line and seed, the seeds of a line together."""
        for name, variant in self.variants.items():
            trial = variant.trial(profile)
            for seed in range(1 if trial.product else self.n_seeds):
                yield name, variant, replace(trial, seed=seed)


def _lines(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Variant]:
    return {name: Variant(change) for name, change in changes.items()}


NN_INPUTS: dict[str, Any] = {"high": (), "low": ()}
PRODUCTS = {name.upper(): NOTHING | {"product": name} for name in ("smap", "gldas")}
LADDER: dict[str, dict[str, Any]] = {
    COARSE_NN: NN_INPUTS,
    S1_DEM: {"high": RADAR, "low": (), "coarse": ()},
    S1_DEM_S2: {"high": RADAR_OPTICS, "low": (), "coarse": ()},
    NO_COARSE: {"coarse": ()},
    FULL: {},
}
TABLE_9 = Experiment(
    "table9", "Which sources, one after the other", COARSE_NN, _lines(PRODUCTS | LADDER),
    table=9, n_seeds=5,
)  # fmt: skip
BASELINE = "None (Baseline)"
LEFT_OUT: dict[str, dict[str, Any]] = {
    "DEM": {"high": ("sentinel1", "sentinel2")},
    "Sentinel-1": {"high": ("dem", "sentinel2")},
    "Sentinel-2": {"high": RADAR},
    "SoilGrids": {"low": ()},
    "SMAP": {"coarse": ("gldas",)},
    "GLDAS": {"coarse": ("smap",)},
    "SMAP + GLDAS": {"coarse": ()},
}
TABLE_16 = Experiment(
    "table16", "Leave one source out", BASELINE, _lines({BASELINE: {}, **LEFT_OUT}),
    table=16, n_seeds=5,
)  # fmt: skip
ON_WIDE = {"recipe": "sentinel1_wide", "high": RADAR_OPTICS, "low": (), "coarse": ()}
SIZES = {
    f"{px}x{px}": Variant(ON_WIDE | {"crop_px": px}, is_size=True) for px in (64, 128, 256, 512)
}
TABLE_15 = Experiment("table15", "Input size", "256x256", SIZES, table=15)
INDICES = (*RADAR_OPTICS, "sentinel2.NDVI", "sentinel2.EVI")
ADDED: dict[str, dict[str, Any]] = {
    "EVI/NDVI": {"high": INDICES},
    "MODIS LAI": {"low": ("soilgrids", "modis_lai")},
}
TABLE_18 = Experiment(
    "table18", "One more vegetation layer", BASELINE, _lines({BASELINE: {}, **ADDED}), table=18
)
ACTIVE_PASSIVE = "Sentinel-1 + DEM + SMAP (Active-passive)"
TOGETHER: dict[str, dict[str, Any]] = {
    "SMAP": PRODUCTS["SMAP"],
    S1_DEM: LADDER[S1_DEM],
    ACTIVE_PASSIVE: {"high": RADAR, "low": (), "coarse": ("smap",)},
    "Full model (For comparison)": {},
}
TABLE_19 = Experiment(
    "table19", "Active and passive radar together", ACTIVE_PASSIVE, _lines(TOGETHER), table=19
)


def _anchored(anchor: str, recipe: str) -> dict[str, Variant]:
    """The lines of Table 21 for one anchor, each measured from its own SMAP + GLDAS network."""
    lines = {n: LADDER[n] | {"recipe": recipe} for n in (COARSE_NN, NO_COARSE, FULL)}
    base = f"{COARSE_NN}, {anchor} anchored"
    return {
        f"{n}, {anchor} anchored": Variant(c, printed=n, reference=base) for n, c in lines.items()
    }


TABLE_21 = Experiment(
    "table21",
    "The anchor of the join",
    f"{COARSE_NN}, Sentinel-1 anchored",
    {**_anchored("Sentinel-1", "sentinel1"), **_anchored("SMAP", "smap")},
    table=21,
)
FACTORS = (2.0, 1.0, 0.6)  # of Table 7: 0.1, 0.05, 0.03, and the same for the weight decay
SWEEP = {
    f"learning rate x{rate:g}, weight decay x{decay:g}": Variant(
        scaled={"learning_rate": rate, "weight_decay": decay}
    )
    for rate in FACTORS
    for decay in FACTORS
}
TABLE_7 = Experiment(
    "table7", "Learning rate and weight decay", "learning rate x1, weight decay x1", SWEEP
)
DESIGN = {
    "encoder": ("Encoder", {"xception": "Xception", "resnet": "ResNet", "mobilenet": "MobileNet"}),
    "pooling": ("Pooling", {"center": "centre-weighted", "average": "average"}),
    "loss": ("Loss", {"huber": "Huber", "mse": "squared error", "mae": "absolute error"}),
    "fusion": ("Fusion", {"late": "late", "early": "early"}),
}
CHOICES = tuple(
    Experiment(
        argument,
        title,
        next(iter(names.values())),
        _lines({words: {argument: value} for value, words in names.items()}),
    )
    for argument, (title, names) in DESIGN.items()
)
SOURCE_NAMES = {
    "DEM": ("dem",), "Sentinel-1": ("sentinel1",), "Sentinel-2": ("sentinel2",),
    "SoilGrids": ("soilgrids",), "SMAP": ("smap",), "GLDAS": ("gldas",),
    "SMAP + GLDAS": ("smap", "gldas"),
}  # fmt: skip
DROPOUT = {"source_dropout": 0.3, "withheld": tuple(SOURCE_NAMES.values())}
ALL_PRESENT = "trained with all"
ABSENCE = Experiment(
    "absence",
    "A source absent at inference: one model trained for it, or one model for each case",
    ALL_PRESENT,
    {ALL_PRESENT: Variant(), "source dropout, all present": Variant(DROPOUT)}
    | {f"trained without {name}": Variant(change) for name, change in LEFT_OUT.items()}
    | {
        f"source dropout, {name} absent": Variant(
            DROPOUT, withheld=sources, reference=f"trained without {name}"
        )
        for name, sources in SOURCE_NAMES.items()
    },
)
EXPERIMENTS = (
    TABLE_9, TABLE_16, TABLE_15, TABLE_18, TABLE_19, TABLE_21, TABLE_7, *CHOICES, ABSENCE,
)  # fmt: skip


def chosen(names: list[str] | None = None) -> tuple[Experiment, ...]:
    """The experiments of these names, all of them for None.

    Raises ``UnknownNameError``, naming those that there are.
    """
    known = {e.name: e for e in EXPERIMENTS}
    for name in names or ():
        if name not in known:
            raise UnknownNameError(f"No experiment {name!r}; there are {', '.join(known)}.")
    return tuple(known[n] for n in names or known)


# Many trials: in parallel processes, one row file each, taken up wherever they were left.

log = logging.getLogger(__name__)
SCALARS_COST = 0.002  # of a step on two scalars, against one on an image of 128 pixels
START_COST = 600.0  # of a process that imports torch and opens a dataset, in such samples


@dataclass(frozen=True)
class Line:
    """A line of a table at one seed: which trial stands for it."""

    experiment: str
    variant: str
    withheld: tuple[str, ...]
    trial: Trial
    key: str


def cost(trial: Trial) -> float:
    """What a trial takes, roughly, in training samples of 128 pixels."""
    if trial.product:
        return START_COST
    size = (trial.crop_px / 128) ** 2 if trial.high else SCALARS_COST
    return START_COST + trial.steps * trial.batch_size * size


@dataclass
class Study:
    """The experiments to run, where their work and their rows go, and how.

    ``work`` holds datasets, checkpoints, predictions and ``rows/<key>.json``. ``workers`` 0 runs
    the trials one by one in this process. ``seeds`` keeps these seeds only. Trials whose row stands
    are not run again, failed ones only with ``again``. With ``look_at_test`` every trial's weights
    are scored on the test split too, once, and its row says so.
    """

    experiments: tuple[Experiment, ...]
    profile: Profile
    work: Path
    workers: int = 2
    seeds: tuple[int, ...] | None = None
    look_at_test: bool = False
    again: bool = False
    lines: list[Line] = field(default_factory=list)
    data: dict[str, Data] = field(default_factory=dict)

    def plan(self) -> list[Line]:
        """Every line with its trial's key; builds the datasets that are not there yet.

        Lines whose dataset stands nowhere are left out, and the log says which.
        """
        self.lines = []
        absent: dict[str, str] = {}
        for experiment in self.experiments:
            for name, variant, trial in experiment.trials(self.profile):
                if self.seeds is not None and trial.seed not in self.seeds:
                    continue
                try:
                    key = trial.key(self.data_of(trial.recipe).content_hash)
                except ContractError as error:
                    absent[f"{experiment.name}, {name}"] = str(error)
                    continue
                self.lines.append(Line(experiment.name, name, variant.withheld, trial, key))
        for name, why in absent.items():
            log.warning("left out: %s. %s", name, why)
        return self.lines

    def data_of(self, recipe: str) -> Data:
        """The dataset of a recipe, built when it is not there."""
        if recipe not in self.data:
            self.data[recipe] = Data(prepare(self.profile.recipes[recipe], self.work))
        return self.data[recipe]

    def due(self) -> list[Job]:
        """The trials whose rows are missing, those of the first seeds first."""
        trials = {line.key: line.trial for line in self.lines or self.plan()}
        jobs = (self._job(key, trial) for key, trial in trials.items())
        return sorted((job for job in jobs if job), key=lambda job: job.about["definition"]["seed"])

    def _job(self, key: str, trial: Trial) -> Job | None:
        """What is to be done for a trial; None where its row stands."""
        row = self.store.read(key) or {}
        is_trained = row.get("status") == OK
        if row and not (self.again or is_trained):
            return None
        if is_trained and (row["looked_at_test"] or not self.look_at_test):
            return None
        data = self.data_of(trial.recipe)
        last: dict[str, Any] = row if is_trained else {}
        given: dict[str, Any] = {"work": self.work, "row": last, "look_at_test": self.look_at_test}
        work = partial(run_trial, trial, data.folder, **given)
        about = {"definition": trial.definition, "data": data.content_hash, "looked_at_test": False}
        return Job(key, f"{key} seed {trial.seed}", work, about | last, cost(trial))

    @property
    def store(self) -> Rows:
        """The rows of all trials."""
        return Rows(self.work / "rows")

    def run(self) -> list[dict]:
        """Run what is missing; the rows of all lines' trials, each once.

        Interrupt it whenever you like: rows are written whole, and a trial that was killed goes on
        at its last validation.
        """
        jobs = self.due()
        log.info("%d trials, %d of them to run", len({n.key for n in self.lines}), len(jobs))
        run(jobs, self.store, workers=self.workers)
        return self.rows()

    def rows(self) -> list[dict]:
        """The rows that stand, one a trial."""
        keys = dict.fromkeys(line.key for line in self.lines or self.plan())
        return [row for row in map(self.store.read, keys) if row is not None]
