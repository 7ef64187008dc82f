"""A table whose names are scripts, loads, formulas and breaks: the page shows them, and obeys none.

Run with the mark ``browser``; skipped where Chromium or its driver is absent."""

import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from soilkit.errors import ContractError
from soilkit.export import tables
from soilkit.show import reports
from tests.browser import lab

SCRIPT = "<script>alert('{}')</script>"
STATIONS = [
    SCRIPT.format("station"),
    "<img src=x onerror=alert('image')>",
    "<img src='https://evil.example/x.png'>",
    "'\"><iframe srcdoc=\"<script>parent.alert('frame')</script>\">",
    "</script></style></title>" + SCRIPT.format("closed"),
    "<!-- <b>bold</b>",
    "]]>&lt;script&gt;alert('entity')&lt;/script&gt;",
    "[link](javascript:alert('link')) `code` | *a* ~~b~~ # head",
    "$$\\frac{1}{2$ {{ 7 * 7 }}{% raw %}",
    "@import url(https://evil.example/a.css); import('https://evil.example/m.js')",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "\u202eright to left <svg onload=alert('svg')>",
    "=cmd|' /C calc'!A0",
    "N" * 300,
]
REFUSED = ("a line\nbreak\n\n# head\n- point", "nul\x00 and bell\x07")
ALERTS = "window.alert = x => (window.top.alerts = window.top.alerts || []).push(x);"
LINKS = "return [...document.links].filter(a => a.protocol === 'javascript:').length"
SIZES = "return [...document.querySelectorAll('h1, h2, iframe')].map(e => e.tagName)"


def hostile():
    """Fourteen stations, two models, every column of text a danger of its own."""
    rng, n, parts = np.random.default_rng(0), 40, []
    days = pd.date_range("2019-01-01", periods=n, freq="5D").astype(str)
    for k, station in enumerate(STATIONS):
        observed = 0.25 + 0.1 * np.sin(np.arange(n) / 6 + k) + rng.normal(0, 0.02, n)
        words = {name: SCRIPT.format(name) for name in ("network", "land_cover", "split")}
        words |= {"station": station, "koeppen": "<i>Dfa</i>", "texture": "loam</td><b>"}
        words |= {"latitude": 30.0 + 2.5 * (k % 4), "longitude": -110.0 + 2.5 * (k // 4)}
        for model, error in ((SCRIPT.format("model"), 0.03), ("SMAP_L4 $x^{ <img src=x>", 0.05)):
            predicted = observed + rng.normal(0, error, n)
            values = {"time": days, "observed": observed, "predicted": predicted, "model": model}
            parts.append(pd.DataFrame(values | words))
    return pd.concat(parts, ignore_index=True)


class Text(HTMLParser):
    """What a reader sees."""

    def __init__(self, page):
        super().__init__()
        self.words = ""
        self.feed(page)

    def handle_data(self, data):
        self.words += data


@pytest.mark.browser
@lab.needed
def test_no_name_of_a_table_runs_loads_or_breaks_the_page(tmp_path):
    table, read = hostile(), {"units": "m3 m-3", "timezone": "UTC"}
    for broken in REFUSED:  # a line break makes no name, whoever quotes it
        with pytest.raises(ContractError, match="holds a line break"):
            odd = table.assign(station=table["station"].replace(STATIONS[0], broken))
            reports.evaluate_table(odd, tmp_path, reading=read)
    name = '"><script>alert("name")</script>'
    provenance = {"flags": SCRIPT.format("flags"), SCRIPT.format("item"): "G"}
    page = reports.evaluate_table(
        table, tmp_path, reading=read,
        parameters={"archive": name, "provenance": provenance},
    )  # fmt: skip
    html = page.read_text(encoding="utf-8")
    assert str(tmp_path) not in html, "no path of this machine"
    words = Text(html).words
    ids = tables.read_predictions(table, **read)[0]["station_id"].astype(str).unique()
    for shown in (name, *ids, provenance["flags"]):
        assert shown in words
    assert sum(station in words for station in STATIONS) >= 5, "as written, beside their ids"
    with lab.chromium() as window:
        source = {"source": ALERTS}
        window.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source)
        window.get(page.as_uri())
        lab.wait(
            lambda: window.execute_script("return document.readyState") == "complete",
            seconds=60, what="the page",
        )  # fmt: skip
        assert window.execute_script("return window.alerts || []") == []
        assert window.execute_script(LINKS) == 0
        assert window.execute_script(SIZES).count("IFRAME") == 1, "the interactive view alone"
        loads = [json.loads(line["message"])["message"] for line in window.get_log("performance")]
    urls = [load["params"].get("request", {}).get("url", "") for load in loads]
    assert not [url for url in urls if url.startswith(("http", "ws", "ftp"))]
