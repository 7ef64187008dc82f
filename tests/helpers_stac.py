"""Small STAC catalogues for tests: on disk, and served as an API on the loopback."""

import contextlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import rasterio

from soilkit import grids

CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
]


# ---- rasters and items ---------------------------------------------------------------------------


def raster(path, values, grid, **profile):
    """Write values (row, col) or (band, row, col) with plain rasterio; returns the path."""
    cube = np.atleast_3d(values) if values.ndim == 3 else values[None]
    options = {"crs": grid.crs, "transform": rasterio.Affine(*grid.transform), **profile}
    scales, offsets = (options.pop(key, None) for key in ("scales", "offsets"))
    with rasterio.open(
        path, "w", driver="GTiff", count=len(cube), height=cube.shape[1], width=cube.shape[2],
        dtype=cube.dtype, **options,
    ) as file:  # fmt: skip
        file.write(cube)
        if scales:
            file.scales, file.offsets = scales, offsets
    return path


def square(west, south, east, north, *, tilt=1e-4):
    """A footprint that is no mere bounding box: its corners are a little off."""
    ring = [[west, south + tilt], [east, south], [east, north], [west, north], [west, south + tilt]]
    return {"type": "Polygon", "coordinates": [ring]}


def around(latitude, longitude, *, degrees=0.2):
    """A footprint around a place."""
    return square(longitude - degrees, latitude - degrees, longitude + degrees, latitude + degrees)


def item(item_id, collection, *, geometry, time, assets=(), **properties):
    """A STAC item as a dict; ``time`` is one moment, or (start, end)."""
    vertices = np.array([p[:2] for p in geometry["coordinates"][0]])
    start, end = (time, time) if isinstance(time, str) else time
    times = {"datetime": start}
    if not isinstance(time, str):
        times |= {"start_datetime": start, "end_datetime": end}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": collection,
        "geometry": geometry,
        "bbox": [*vertices.min(axis=0).tolist(), *vertices.max(axis=0).tolist()],
        "properties": {**times, **properties},
        "links": [],
        "assets": {
            key: {**one, "href": str(one["href"])} if isinstance(one, dict) else {"href": str(one)}
            for key, one in dict(assets).items()
        },
    }  # fmt: skip


def file_name(one):
    """Where an item's JSON goes: ids may hold what file names may not."""
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', one['id'])}.json"


def collection(name, items, **more):
    """A STAC collection as a dict."""
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": name,
        "description": f"test {name}",
        "license": "proprietary",
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2000-01-01T00:00:00Z", None]]},
        },
        "links": [{"rel": "item", "href": f"./{file_name(one)}"} for one in items],
        **more,
    }


def write_catalogue(folder, items, *, collections=None):
    """Write a static catalogue, a collection for each that the items name; returns its path."""
    names = dict.fromkeys([*(one["collection"] for one in items), *(collections or {})])
    for name in names:
        mine = [one for one in items if one["collection"] == name]
        (folder / name).mkdir(parents=True, exist_ok=True)
        for one in mine:
            (folder / name / file_name(one)).write_text(json.dumps(one))
        words = collection(name, mine, **(collections or {}).get(name, {}))
        (folder / name / "collection.json").write_text(json.dumps(words))
    root = {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "test",
        "description": "test",
        "links": [{"rel": "child", "href": f"./{name}/collection.json"} for name in names],
    }
    (folder / "catalog.json").write_text(json.dumps(root))
    return folder / "catalog.json"


def stations(**places):
    """A stations table from ``name=(latitude, longitude)``."""
    rows = [
        {"sensor_id": f"{k}__x__0.05__0.05", "station_id": k, "latitude": a, "longitude": o}
        for k, (a, o) in places.items()
    ]
    return pd.DataFrame(rows)


def grid_at(latitude, longitude, *, size_px=64, pixel_size_m=10.0, crs=None):
    """A grid around a place, in its UTM zone or another one."""
    grid = grids.chip_grid(latitude, longitude, size_px=size_px, pixel_size_m=pixel_size_m)
    if crs is None:
        return grid
    x, y = grids.transformer("EPSG:4326", crs).transform(longitude, latitude)
    half = size_px * pixel_size_m / 2
    return grids.Grid(crs, x - half, y + half, pixel_size_m, size_px, size_px)


# ---- an API on the loopback ----------------------------------------------------------------------


class Api:
    """A STAC API over some items, a few a page; ``fault`` spoils its searches.

    ``fault`` is "", "error" (500), "stall", "html" (no JSON) or "second page" (500 there).
    """

    def __init__(self, items, *, page=3):
        self.items, self.page, self.fault = items, page, ""
        self.asked = []
        self._stop = threading.Event()

    def search(self, words):
        """(status, answer) of one search."""
        self.asked.append(words)
        first = int(words.get("token", 0))
        if self.fault == "error" or (self.fault == "second page" and first):
            return 500, {"description": "the index is on fire"}
        found = [one for one in self.items if _matches(one, words)]
        some = found[first : first + min(self.page, int(words.get("limit", 10)))]
        links = []
        if first + len(some) < len(found):
            body = {**words, "token": first + len(some)}
            href = f"{self.url}/search"
            links = [{"rel": "next", "method": "POST", "href": href, "body": body}]
        return 200, {"type": "FeatureCollection", "features": some, "links": links}

    def get(self, path):
        """The answer to a GET."""
        names = list(dict.fromkeys(one["collection"] for one in self.items))
        if path.rstrip("/") == "/collections":
            found = [{**collection(n, []), "links": []} for n in names]
            return {"collections": found, "links": []}
        links = [
            {"rel": "self", "href": self.url},
            {"rel": "root", "href": self.url},
            {"rel": "data", "href": f"{self.url}/collections"},
            {"rel": "search", "href": f"{self.url}/search", "method": "POST"},
        ]
        return {
            "type": "Catalog", "stac_version": "1.0.0", "id": "loopback", "description": "test",
            "conformsTo": CONFORMANCE, "links": links,
        }  # fmt: skip


def _matches(one, words):
    if words.get("ids") and one["id"] not in words["ids"]:
        return False
    if words.get("collections") and one["collection"] not in words["collections"]:
        return False
    if words.get("bbox"):
        w, s, e, n = words["bbox"]
        west, south, east, north = one["bbox"]
        if west > e or east < w or south > n or north < s:
            return False
    if words.get("datetime"):
        start, end = words["datetime"].split("/")
        times = one["properties"]
        if times.get("end_datetime", times["datetime"]) < start or times["datetime"] > end:
            return False
    return True


@contextlib.contextmanager
def serving(api):
    """Serve an ``Api`` on the loopback while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(200, api.get(self.path.split("?")[0]))

        def do_POST(self):
            length = int(self.headers["Content-Length"])
            words = json.loads(self.rfile.read(length))
            if api.fault == "stall":
                api._stop.wait(10)
            self._answer(*api.search(words))

        def _answer(self, status, answer):
            text = json.dumps(answer)
            if api.fault == "html" and self.path.endswith("search"):
                text = "<html>maintenance</html>"
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api._stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
