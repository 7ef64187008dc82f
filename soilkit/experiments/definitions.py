"""The experiments of Batchu et al. (2022): a table is a list of variants of one trial."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from soilkit.errors import UnknownNameError
from soilkit.experiments.recipes import Recipe
from soilkit.experiments.trials import Trial

S1_DEM = "Sentinel-1 + DEM"
S1_DEM_S2 = "Sentinel-1 + DEM + Sentinel-2"
NO_COARSE = "Sentinel-1 + DEM + Sentinel-2 + SoilGrids"
FULL = "Sentinel-1 + DEM + Sentinel-2 + SoilGrids + SMAP + GLDAS"
COARSE_NN = "SMAP + GLDAS NN"
RADAR, RADAR_OPTICS = ("sentinel1", "dem"), ("sentinel1", "dem", "sentinel2")
NOTHING: dict[str, Any] = {"high": (), "low": (), "coarse": ()}
# A network on two scalars costs next to nothing a step: it gets enough of them to be a fair rival.
COARSE_STEPS = 5


@dataclass(frozen=True)
class Profile:
    """How large everything is: the trial that others vary, and the data of each recipe."""

    base: Trial
    recipes: Mapping[str, Recipe]
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]


RECIPES = {
    "sentinel1": Recipe("sentinel1"),
    "sentinel1_wide": Recipe(
        "sentinel1_wide", n_stations=60, size_px=512, sources=("sentinel1", "sentinel2", "dem")
    ),
    "smap": Recipe("smap", anchor="smap", n_stations=120, sources=tuple(
        s for s in Recipe("").sources if s != "modis_lai")),
}  # fmt: skip
PROFILES = {
    # Two cores: hundreds of steps of Adam. The sweep keeps the proportions of the paper's.
    "small": Profile(Trial(), RECIPES, (0.004, 0.002, 0.0012), (0.02, 0.01, 0.006)),
    # Table 7, for a GPU.
    "paper": Profile(
        Trial(
            preset="paper", crop_px=256, steps=600_000, batch_size=64, validations=100,
            optimizer="sgd", learning_rate=0.05, weight_decay=5e-5, precision="bfloat16",
        ),
        RECIPES | {"sentinel1": Recipe("sentinel1", n_stations=1000, size_px=384)},
        (0.1, 0.05, 0.03),
        (1e-4, 5e-5, 3e-5),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A line of a table: what it changes, and which sources its evaluation goes without.

    ``printed`` is the paper's label where ours differs, ``reference`` another line than the
    experiment's own to measure the step from.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()
    printed: str = ""
    reference: str = ""


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
            for seed in range(self.n_seeds):
                changes = {"seed": seed, **variant.changes}
                if not (changes.get("high", True) or changes.get("low", True)):
                    changes.setdefault("steps", profile.base.steps * COARSE_STEPS)
                if changes.get("product"):
                    changes |= {"seed": 0}
                    if seed:
                        continue
                yield name, variant, profile.base.with_(**changes)


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
    "table9",
    "Which sources, one after the other",
    COARSE_NN,
    _lines(PRODUCTS | LADDER),
    table=9,
    n_seeds=5,
)
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
    "table16",
    "Leave one source out",
    BASELINE,
    _lines({BASELINE: {}, **LEFT_OUT}),
    table=16,
    n_seeds=5,
)
EXPERIMENTS = (TABLE_9, TABLE_16)


def chosen(names: list[str] | None = None) -> tuple[Experiment, ...]:
    """The experiments of these names, all of them for None.

    Raises
    ------
    UnknownNameError
        Naming those that there are.
    """
    known = {e.name: e for e in EXPERIMENTS}
    for name in names or ():
        if name not in known:
            raise UnknownNameError(f"No experiment {name!r}; there are {', '.join(known)}.")
    return tuple(known[n] for n in names or known)
