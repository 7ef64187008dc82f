"""The signatures that Earth Engine publishes, and the check of every call against them."""

import importlib.util
import json
from functools import lru_cache
from pathlib import Path

from tests.stand_in_ee.errors import Answer
from tests.stand_in_ee.values import kind_of

# What may stand where a type is asked for, beside itself: promotions of the service.
STANDS_FOR = {
    "Element": ("Image", "Feature"),
    "Feature": ("Geometry", "Element"),
    "Collection": ("FeatureCollection", "ImageCollection"),
    "FeatureCollection": ("ImageCollection",),
    "Projection": ("String",),
    "Date": ("Number", "String"),
    "ErrorMargin": ("Number",),
    "Number": ("Boolean",),
    "Geometry": ("Feature",),
}
NUMBERS = ("Integer", "Long", "Float", "Double", "Short", "Byte", "Number")


@lru_cache(maxsize=2)
def resource(name: str) -> bytes:
    """A file that the client ships for its own tests; the client itself is not loaded."""
    (package,) = importlib.util.find_spec("ee").submodule_search_locations
    return Path(package, "tests", name).read_bytes()


@lru_cache(maxsize=1)
def signatures() -> dict[str, dict]:
    """Every algorithm by its name."""
    listed = json.loads(resource("algorithms.json"))["algorithms"]
    return {entry["name"].removeprefix("algorithms/"): entry for entry in listed}


def complete(name: str, given: dict) -> dict:
    """The arguments with the defaults filled in; refused where the call breaks the signature."""
    if name not in signatures():
        raise Answer(f"Unrecognized function: '{name}'.")
    arguments = _arguments(name)
    for argument in given:
        if argument not in arguments:
            raise Answer(f"{name}: Unrecognized argument '{argument}' in call to this function.")
    values = {}
    for argument, entry in arguments.items():
        value = given.get(argument)
        if value is None:
            if not entry.get("optional"):
                raise Answer(f"{name}: Parameter '{argument}' is required and may not be null.")
            value = entry.get("defaultValue")
        elif not fits(value, entry["type"]):
            raise Answer(
                f"{name}, argument '{argument}': Invalid type.\n"
                f"Expected type: {entry['type']}.\nActual type: {kind_of(value)}."
            )
        values[argument] = value
    return values


@lru_cache(maxsize=1024)
def _arguments(name: str) -> dict[str, dict]:
    return {a["argumentName"]: a for a in signatures()[name].get("arguments", ())}


def fits(value, wanted: str) -> bool:
    """Whether a value may stand where a type is wanted."""
    wanted = wanted.split("<")[0]
    found = kind_of(value)
    if wanted in ("Object", "Any") or wanted == found:
        return True
    if wanted in NUMBERS:
        whole = wanted in ("Integer", "Long", "Short", "Byte")
        return found == "Number" and (not whole or float(value).is_integer())
    return found in STANDS_FOR.get(wanted, ())
