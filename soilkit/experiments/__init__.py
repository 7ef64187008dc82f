"""The paper's experiments: definitions, resumable trials, tables of paper and ours."""

from soilkit.experiments.contrasts import mean_with_interval
from soilkit.experiments.definitions import (
    EXPERIMENTS,
    FULL,
    PROFILES,
    Experiment,
    Profile,
    Variant,
    chosen,
)
from soilkit.experiments.recipes import Data, Recipe, prepare
from soilkit.experiments.reporting import open_study, read_study, results_of, write_study
from soilkit.experiments.study import Study
from soilkit.experiments.tables import Results, by_stratum, paper_beside_ours, render, sizes
from soilkit.experiments.trials import Trial

__all__ = [
    "EXPERIMENTS",
    "FULL",
    "PROFILES",
    "Data",
    "Experiment",
    "Profile",
    "Recipe",
    "Results",
    "Study",
    "Trial",
    "Variant",
    "by_stratum",
    "chosen",
    "mean_with_interval",
    "open_study",
    "paper_beside_ours",
    "prepare",
    "read_study",
    "render",
    "results_of",
    "sizes",
    "write_study",
]
