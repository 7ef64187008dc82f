"""``python -m tests.benchmarks.fusion_study reports/xception_fusion``: the paper's source tables.

Rows, datasets, checkpoints and predictions stay in the working folder; interrupt it whenever you
like, and start it again: what was done is not done again. The tables are written at the end, and
when it is interrupted.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.fusion_experiments import PROFILES, Profile, Study, chosen
from tests.benchmarks.fusion_tables import write_study
from tests.benchmarks.trials import carry_out, command_line, understood


def profile_of(options: argparse.Namespace) -> Profile:
    """The profile that the options name, on their dataset where they name one."""
    profile = PROFILES[options.profile]
    if options.steps:
        profile = replace(profile, base=replace(profile.base, steps=options.steps))
    if not options.dataset:
        return profile
    label = options.label or Path(options.dataset).name
    theirs = {}
    for name, recipe in profile.recipes.items():
        folder = (options.smap_dataset or "") if recipe.anchor == "smap" else options.dataset
        theirs[name] = replace(recipe, folder=folder or "no-dataset", label=label)
    return replace(profile, recipes=theirs)


def main(words: list[str] | None = None) -> None:
    """Run the study that the command line describes."""
    parser = command_line("tests.benchmarks.fusion_study", __doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="small")
    parser.add_argument("--steps", type=int, help="training steps, where the profile's do not fit")
    parser.add_argument("--dataset", help="a folder of notebook 10 or 12 instead of the world")
    parser.add_argument("--smap-dataset", help="the same, joined with SMAP as the anchor")
    parser.add_argument("--label", default="", help="how the data of --dataset are called")
    parser.add_argument("--look-at-test", action="store_true", help="score the test split, once")
    options = understood(parser, words)
    study = Study(
        chosen(options.only), profile_of(options), work=options.work, workers=options.workers,
        seeds=options.seeds, look_at_test=options.look_at_test, again=options.again,
    )  # fmt: skip
    study.plan()
    carry_out(study, options, write=write_study)


if __name__ == "__main__":
    main()
