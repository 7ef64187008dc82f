"""Many trials: in parallel processes, one row file each, taken up wherever they were left."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from soilkit.errors import ContractError
from soilkit.experiments import rows, running
from soilkit.experiments.definitions import Experiment, Profile
from soilkit.experiments.recipes import Data, prepare
from soilkit.experiments.scheduling import Progress, run_all
from soilkit.experiments.trials import FORMAT_VERSION, Trial

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


@dataclass(frozen=True)
class Job:
    """One trial to run in a process of its own, which writes the row itself."""

    trial: Trial
    key: str
    folder: Path
    work: Path
    look_at_test: bool

    def __call__(self) -> None:
        """Train what is not trained, look at the test where that was asked and not yet done."""
        running.one_thread()
        data, row = Data(self.folder), rows.read_row(self.work, self.key)
        if row is not None and row["status"] == running.OK:
            row = running.look_at_test(row, self.trial, data=data, work=self.work)
        else:
            row = running.run_trial(
                self.trial, data, work=self.work, look_at_test=self.look_at_test
            )
        rows.write_row(self.work, row)

    def broke(self, why: str) -> None:
        """Write the row of a trial whose process died."""
        definition = {
            "definition": self.trial.definition,
            "data": "",
            "seconds": 0.0,
            "cpu_seconds": 0.0,
        }
        row = {"format_version": FORMAT_VERSION, "key": self.key, "status": why}
        rows.write_row(self.work, row | definition | {"looked_at_test": False})

    @property
    def cost(self) -> float:
        """Roughly, in training samples of 128 pixels."""
        return cost(self.trial)


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
        ordered = sorted(trials.items(), key=lambda item: item[1].seed)
        return [
            Job(trial, key, self.data_of(trial.recipe).folder, self.work, self.look_at_test)
            for key, trial in ordered
            if self._is_due(key)
        ]

    def _is_due(self, key: str) -> bool:
        row = rows.read_row(self.work, key)
        if row is None:
            return True
        if row["status"] != running.OK:
            return self.again
        return self.look_at_test and not row["looked_at_test"]

    def run(self) -> list[dict]:
        """Run what is missing; the rows of all lines' trials, each once.

        Interrupt it whenever you like: rows are written whole, and a trial that was killed goes on
        at its last validation.
        """
        jobs = self.due()
        keys = dict.fromkeys(line.key for line in self.lines)
        log.info("%d trials, %d of them to run", len(keys), len(jobs))
        self.work.mkdir(parents=True, exist_ok=True)
        run_all(jobs, workers=self.workers, progress=Progress(jobs, work=self.work))
        return self.rows()

    def rows(self) -> list[dict]:
        """The rows that stand, one a trial."""
        keys = dict.fromkeys(line.key for line in self.lines or self.plan())
        found = (rows.read_row(self.work, key) for key in keys)
        return [row for row in found if row is not None]
