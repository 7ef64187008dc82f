"""``python -m soilkit.studies reports/xception_fusion``: run the study, write its tables.

Rows, datasets, checkpoints and predictions stay in the working folder; interrupt it whenever you
like, and start it again: what was done is not done again. The tables are written at the end, and
when it is interrupted.
"""

import argparse
import dataclasses
import logging
from pathlib import Path

from soilkit.studies.fusion_study import PROFILES, Profile, Study, chosen
from soilkit.studies.paper_tables import write_study

log = logging.getLogger("soilkit.studies")


def arguments() -> argparse.ArgumentParser:
    """What the command understands."""
    parser = argparse.ArgumentParser(prog="soilkit.studies", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the csv tables")
    parser.add_argument("--work", type=Path, help="working folder (default: beside OUT, in work/)")
    parser.add_argument("--only", type=_names, help="experiments, such as table9,table16")
    parser.add_argument("--seeds", type=_numbers, help="seeds, such as 0,1")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2; 0: none)")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="small")
    parser.add_argument("--steps", type=int, help="training steps, where the profile's do not fit")
    parser.add_argument("--dataset", help="a folder of notebook 10 or 12 instead of the world")
    parser.add_argument("--smap-dataset", help="the same, joined with SMAP as the anchor")
    parser.add_argument("--label", default="", help="how the data of --dataset are called")
    parser.add_argument("--look-at-test", action="store_true", help="score the test split, once")
    parser.add_argument("--again", action="store_true", help="run failed trials again")
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def profile_of(options: argparse.Namespace) -> Profile:
    """The profile that the options name, on their dataset where they name one."""
    profile = PROFILES[options.profile]
    if options.steps:
        profile = dataclasses.replace(profile, base=profile.base.with_(steps=options.steps))
    if not options.dataset:
        return profile
    label = options.label or Path(options.dataset).name
    theirs = {}
    for name, recipe in profile.recipes.items():
        folder = (options.smap_dataset or "") if recipe.anchor == "smap" else options.dataset
        theirs[name] = dataclasses.replace(recipe, folder=folder or "no-dataset", label=label)
    return dataclasses.replace(profile, recipes=theirs)


def main(words: list[str] | None = None) -> None:
    """Run the study that the command line describes."""
    options = arguments().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    study = Study(
        chosen(options.only),
        profile_of(options),
        work=options.work or options.out.parent / "work" / options.out.name,
        workers=options.workers,
        seeds=options.seeds,
        look_at_test=options.look_at_test,
        again=options.again,
    )
    study.plan()
    if options.list:
        for job in study.due():
            log.info("%s: %s", job.name, job.about["definition"])
        return
    try:
        study.run()
    except KeyboardInterrupt:
        log.info("interrupted: start it again to go on")
    finally:
        write_study(study, options.out)
        log.info("tables in %s", options.out)


if __name__ == "__main__":
    main()
