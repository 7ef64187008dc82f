"""The errors that soilkit raises: each says what was wanted, what was found, what to change."""


class SoilkitError(Exception):
    """The base of every error that soilkit raises on purpose."""


class ContractError(SoilkitError, ValueError):
    """A table, chip or store does not hold what its contract promises."""


class SharedErrorsError(ContractError):
    """Series whose errors have a common source are taken for independent ones."""


class UnitError(SoilkitError, ValueError):
    """A value cannot be in the unit that it claims, or no unit was named."""


class TimeZoneError(SoilkitError, ValueError):
    """Times are naive and of unknown zone."""


class ArchiveReadError(SoilkitError, ValueError):
    """An in-situ archive is empty, corrupt or not what its name says."""


class UnknownNameError(SoilkitError, KeyError):
    """A name that no table knows: a source, a band, a flag, an archive, a preset."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class BoundError(SoilkitError, ValueError):
    """A temporal bound of the join is missing, zero or negative."""


class SceneNotFoundError(SoilkitError, LookupError):
    """A scene, chip or series value that was asked for does not exist."""


class StoreError(SoilkitError, OSError):
    """A store cannot be written, or what it holds is damaged or of another version."""


class CheckpointError(SoilkitError, ValueError):
    """A checkpoint does not fit the inputs that it is given."""


class DivergedError(SoilkitError, ArithmeticError):
    """Training met a loss that is no finite number."""


class ParameterError(SoilkitError, ValueError):
    """A notebook parameter that does not exist, or of the wrong type."""


class DeclinedError(SoilkitError, RuntimeError):
    """An export with a cost was not agreed to."""


class ShardError(SoilkitError, ValueError):
    """A published shard is truncated, damaged or of another schema; ``record`` says where."""

    def __init__(self, message: str, *, record: int | None = None) -> None:
        super().__init__(message)
        self.record = record


class DownloadError(SoilkitError, OSError):
    """A file could not be fetched, or what came is not what the server holds."""


class CatalogueError(SoilkitError, OSError):
    """A catalogue of scenes is absent or broken, or its service does not answer."""


class ConnectError(SoilkitError, ConnectionError):
    """A service cannot be reached or does not let us in; the message says what to do."""


class DependencyError(SoilkitError, ImportError):
    """A package that soilkit needs for this alone is not installed."""


class DatasetError(SoilkitError, LookupError):
    """An archive no longer holds a dataset, a band or a period that an export needs."""


class LeakageError(SoilkitError, ValueError):
    """A split keeps less apart than a result claims; the message lists what leaks."""
