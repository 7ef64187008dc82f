"""The one door to Earth Engine's client: its calls, and their errors as faults.

No other module imports ``ee``; those that build expressions ask ``library`` for it, so that a
notebook which never opens the archive never waits for the client to load.
"""

import http.client
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from soilkit.archives.earthengine.advising import advice
from soilkit.archives.earthengine.faults import Fault, ServiceError, fault_of_status
from soilkit.contracts import Grid

PAGE_ROWS = 1000
_BROKEN = ("IncompleteRead", "prematurely", "decompress", "InvalidChunkLength")


def library() -> Any:
    """The Earth Engine client, loaded when first asked for (it takes seconds)."""
    import ee

    return ee


def features(expression: Any) -> list[dict[str, Any]]:
    """The properties of every feature of a collection, page by page.

    Parameters
    ----------
    expression : ee.FeatureCollection, or an ee.ImageCollection mapped to features

    Raises
    ------
    ServiceError
    """
    return [row for page in _pages(expression) for row in page]


def _pages(expression: Any) -> Iterator[list[dict[str, Any]]]:
    asked = {"expression": expression, "pageSize": PAGE_ROWS}
    while True:
        page = _call(library().data.computeFeatures, asked)
        yield [feature.get("properties") or {} for feature in page.get("features", [])]
        token = page.get("nextPageToken")
        if not token:
            return
        asked = asked | {"pageToken": token}


def pixels(expression: Any, grid: Grid) -> np.ndarray:
    """The pixels of an image on a grid.

    Parameters
    ----------
    expression : ee.Image, or what ``encoded`` makes of one
    grid : Grid

    Returns
    -------
    structured array (row, col), one field a band; masked pixels read 0, so ``unmask`` first

    Raises
    ------
    ServiceError
        Of kind "truncated" where the body is not an array of the grid's shape.
    """
    if not isinstance(expression, dict):
        expression = encoded(expression)
    asked = {"expression": expression, "fileFormat": "NPY", "grid": _pixel_grid(grid)}
    body = _call(_compute_pixels, asked)
    try:
        found = np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ServiceError(Fault("truncated", f"{len(body)} bytes, no array", True)) from error
    if found.shape != (grid.height, grid.width):
        wanted = (grid.height, grid.width)
        raise ServiceError(Fault("truncated", f"wanted {wanted}, found {found.shape}", True))
    return found


def encoded(expression: Any) -> dict[str, Any]:
    """An expression as it travels: JSON."""
    return library().serializer.encode(expression)


def _compute_pixels(asked: dict[str, Any]) -> bytes:
    """``ee.data.computePixels``, less what it repeats for every call of thousands.

    It encodes the expression and builds the method anew: a third of the time that a call costs the
    client, which shows at 300 calls a second.
    """
    data = library().data
    tag = data.getWorkloadTag()
    asked = asked | {"workloadTag": tag} if tag else asked
    images = _images(data._get_state().cloud_api_resource_raw)
    call = images.computePixels(project=data._get_projects_path(), body=asked)
    return data._execute_cloud_call(call)


@lru_cache(maxsize=1)
def _images(resource: Any) -> Any:
    return resource.projects().image()


def _pixel_grid(grid: Grid) -> dict[str, Any]:
    a, b, c, d, e, f = grid.transform
    return {
        "crsCode": grid.crs,
        "dimensions": {"width": grid.width, "height": grid.height},
        "affineTransform": {
            "scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f,
        },
    }  # fmt: skip


def metadata(asset: str) -> dict[str, Any]:
    """What the service tells about an asset: type, bands, dates, properties.

    Raises
    ------
    ServiceError
    """
    return _call(library().data.getAsset, asset)


def value(expression: Any) -> Any:
    """The value of an expression, once; not for pixels or tables.

    Raises
    ------
    ServiceError
    """
    return _call(library().data.computeValue, expression)


def _call(ask: Callable[[Any], Any], asked: Any) -> Any:
    try:
        return ask(asked)
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            raise
        raise ServiceError(fault) from error


def fault_of(error: BaseException) -> Fault | None:
    """The fault behind an exception of the client; None for a bug of ours.

    The client turns every HTTP error into an ``EEException`` that carries the message alone: the
    status is read from the error that it was raised in the handling of.
    """
    from google.auth import exceptions as auth

    ee = library()
    if (refused := _refused(error)) is not None:
        return refused
    if isinstance(error, auth.GoogleAuthError):
        if isinstance(error, auth.TransportError) or error.retryable:
            return Fault("network", f"no answer from the login: {error}", True)
        return Fault("permission", f"the login was refused: {advice(error)}", False)
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return Fault("deadline", f"no answer in time: {error}", True)
    if isinstance(error, http.client.HTTPException | json.JSONDecodeError | UnicodeError):
        return Fault("truncated", str(error), True)
    if isinstance(error, zlib.error) or any(word in str(error) for word in _BROKEN):
        return Fault("truncated", str(error), True)
    if isinstance(error, OSError):  # of requests and urllib3, too
        return Fault("network", str(error), True)
    if isinstance(error, ee.EEException):
        return Fault("request", str(error), False)
    return None


def _refused(error: BaseException) -> Fault | None:
    """The fault of an HTTP status, where there is one behind the exception."""
    from googleapiclient.errors import HttpError

    for found in (error, error.__cause__, error.__context__):
        if isinstance(found, HttpError):
            said = found._get_reason().strip() or f"HTTP {found.resp.status}"
            status, wait_s = int(found.resp.status), _wait_s(found.resp)
            fault = fault_of_status(status, said, retry_after_s=wait_s)
            return replace(fault, reason=advice(error)) if fault.kind == "permission" else fault
    return None


def _wait_s(response: Any) -> float | None:
    try:
        return float(response.get("retry-after"))
    except (TypeError, ValueError):
        return None
