"""An executed notebook as one page that opens with no network: on a screen, a phone, in print."""

import base64
import gzip
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from html import unescape
from pathlib import Path
from typing import Any

from soilkit.errors import ParameterError
from soilkit.files import write_text_whole, write_whole
from soilkit.show.plots.style import escape

TEMPLATES = Path(__file__).parent / "templates"
HEADLINE = "headline"  # tag of the cell whose result leads the page
MOVED = '<p class="moved"><a href="#lead">It stands at the top of this page.</a></p>'
CONTENTS = '<nav class="contents" aria-label="Contents"></nav>'
FEWEST_CHAPTERS, MOST_COLUMNS = 3, 13  # that need a list of contents; that paper holds
MOST_OPEN_ROWS = 4  # of a table that stands open beside a picture, its head among them
THUMBNAIL_PX = 420
PICTURE = re.compile(r'(<img alt="([^"]*)" src="data:image/)(?:png|webp);base64,([^"]+)"')
TAKEAWAY = re.compile(r'id="takeaway">\s*(?:<pre>|<div class="prose"><p>)([^\n]+)')
FRAME = re.compile(r"""(<iframe [^>]*?srcdoc=)(["'])(.*?)\2""", re.DOTALL)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")


# From notebook to page.


def to_html(
    notebook: Any, title: str, *, for_lab: bool = True, code: bool | None = None, up: str = ""
) -> str:
    """One self-contained page of an executed notebook.

    The result of the cell tagged "headline" (else the first picture) leads, the takeaway follows,
    then contents, cells, and the code at the end. Widgets and progress bars, which mean something
    only beside a running kernel, are left out: notebooks set a static picture beside each
    interactive view. A cell that failed is named first.

    Parameters
    ----------
    for_lab : bool, False leaves out what was logged and cells tagged "lab" (what teaches, and what
        asks for a hand)
    code : bool, whether the code stands at the end; by default ``for_lab``
    up : title of the report that the page belongs to, whose index lies beside it

    Raises
    ------
    ValueError
        If the page would still load something from the network.
    """
    import nbformat
    from jinja2 import FileSystemLoader
    from nbconvert import HTMLExporter

    page = nbformat.from_dict(notebook)
    page.cells = [c for c in page.cells if "papermill-error-cell-tag" not in _tags(c)]
    coded = [cell for cell in page.cells if cell.cell_type == "code"]
    with_code = for_lab if code is None else code
    for number, cell in enumerate(coded, 1):
        outputs = [o for o in cell["outputs"] if not _is_transient(o)]
        cell["outputs"] = [o for o in outputs if for_lab or o.get("name") != "stderr"]
        cell.metadata |= {"place": f"cell-{number}", "look": "results", "listed": with_code}
    shown = [c for c in page.cells if c.get("outputs") != [] and (for_lab or "lab" not in _tags(c))]
    places = {c.metadata.get("place") for c in shown}
    listing = [(c.metadata.place, c.source) for c in coded if with_code and c.source.strip()]
    page.metadata = {"title": title, "up": up, "listing": listing,
                     "shown": [i for i, (place, _) in enumerate(listing) if place in places],
                     "language_info": {"name": "python"}}  # fmt: skip
    page.cells = _led(shown)
    exporter = HTMLExporter(
        extra_loaders=[FileSystemLoader(TEMPLATES)], template_file="page.html.j2"
    )
    html = _structured(exporter.from_notebook_node(page)[0])
    html = PICTURE.sub(lambda found: f'{found[1]}webp;base64,{_webp(found[3])}"', html)
    if loads := external_loads(html):
        raise ValueError(
            f"{title} would load {len(loads)} things from the network, first {loads[0]}. "
            "Embed them, or show a static picture instead."
        )
    return FRAME.sub(lambda found: f'{found[1]}"{_packed(unescape(found[3]))}"', html)


def _tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def _led(cells: list[Any]) -> list[Any]:
    """The cells behind what people look at first: what failed, title, headline, takeaway."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

    lead, top = _lead(cells), cells[:1] if cells and cells[0].cell_type == "markdown" else []
    rest = cells[len(top) :]
    heads = []
    if lead is not None:
        outputs = lead.outputs
        if HEADLINE not in _tags(lead):  # the first picture alone
            outputs = [o for o in outputs if "image/png" in o.get("data", {})][:1]
        at = lead.outputs.index(outputs[0])
        moved = new_output("display_data", {"text/html": MOVED})
        lead.outputs = [*lead.outputs[:at], moved, *lead.outputs[at + len(outputs) :]]
        heads = [new_code_cell(outputs=outputs, metadata={"place": "lead", "look": "lead"})]
    texts = [o.get("data", {}).get("text/html", "") for h in heads for o in h.outputs]
    heads = [*heads, *top] if "<h1" in "".join(texts) else [*top, *heads]
    failed = [(c, o) for c in cells for o in c.get("outputs", []) if o.output_type == "error"]
    for cell, output in failed[:1]:
        place, why = cell.metadata.place, escape(f"{output.ename}: {output.evalue}", markdown=True)
        number = place.removeprefix("cell-")
        words = f'**This run stopped at <a href="#{place}">code cell {number}</a>.** {why}'
        heads.insert(0, new_markdown_cell(f'<div class="alarm">\n\n{words}\n</div>'))
    return [*heads, *_takeaway(rest), new_markdown_cell(CONTENTS), *rest]


def _lead(cells: list[Any]) -> Any:
    """The cell tagged "headline", else the first one with a picture, or None."""
    coded = [c for c in cells if c.get("outputs")]
    pictures = [c for c in coded if any("image/png" in o.get("data", {}) for o in c.outputs)]
    return next(iter([*(c for c in coded if HEADLINE in _tags(c)), *pictures]), None)


def _takeaway(cells: list[Any]) -> list[Any]:
    """What a notebook says under "Takeaway", in prose, print and text that begins so, once more."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    texts = [c.source if c.cell_type == "markdown" else "" for c in cells]
    at = next((i for i in reversed(range(len(texts))) if "## Takeaway" in texts[i]), len(cells))
    said = [o for c in cells[at:] for o in c.get("outputs", []) if o.get("name") == "stdout"]
    shown = (o for c in cells for o in c.get("outputs", []) if "data" in o)
    said += [o for o in shown if str(o.data.get("text/markdown", "")).startswith("**Takeaway")]
    prose = "".join(texts[at : at + 1]).partition("## Takeaway")[2].strip()
    look = {"place": "takeaway", "look": "results"}
    top = [new_markdown_cell(prose), new_code_cell(outputs=said, metadata=look)]
    return [cell for cell, has in zip(top, (prose, said), strict=True) if has]


def _structured(html: str) -> str:
    """Headings in order, a list of contents, tables with heads that a keyboard can scroll."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(html, "html.parser")
    for heading in soup.select("h1")[1:]:
        heading.name = "h2"
    chapters = soup.select("h2")
    nav = soup.select_one("nav.contents")
    for number, heading in enumerate(chapters, 1):
        heading["id"] = heading.get("id") or f"part-{number}"
        for anchor in heading.select("a.anchor-link"):
            anchor.decompose()
    if nav is not None and len(chapters) >= FEWEST_CHAPTERS:
        links = "".join(
            f'<li><a href="#{h["id"]}">{escape(h.get_text(strip=True))}</a></li>' for h in chapters
        )
        nav.append(BeautifulSoup(f"<p>Contents</p><ol>{links}</ol>", "html.parser"))
    elif nav is not None:
        nav.decompose()
    for table in soup.select("table"):
        _frame(table, soup)
    return str(soup)


def _frame(table: Any, soup: Any) -> None:
    """Name a table's heads, let a keyboard scroll it, fold it where it is long beside a picture."""
    for cell in table.select("td, th"):
        del cell["class"]  # its row and column, which no style asks for
    for cell in table.select("th"):
        cell["scope"] = "col" if cell.find_parent("thead") else "row"
        if not cell.get_text(strip=True):  # of a row without a name
            cell.name = "td"
            del cell["scope"]
    rows = table.select("tr")
    columns = max((len(row.select("th, td")) for row in rows), default=0)
    words = table.caption.get_text(strip=True) if table.caption else "Table"
    look = "table wide" if columns > MOST_COLUMNS else "table"
    about = {"class": look, "role": "group", "tabindex": "0", "aria-label": words}
    frame = table.wrap(soup.new_tag("div", attrs=about))
    if len(rows) > MOST_OPEN_ROWS and _is_beside_picture(table):
        fold, head = soup.new_tag("details"), soup.new_tag("summary")
        head.string = f"{words} ({len(rows) - 1} rows)"
        frame.wrap(fold).insert(0, head)


def _is_beside_picture(table: Any) -> bool:
    """Whether a picture shares its chapter; what leads a page, or is folded already, stays."""
    stays = table.find_parent(class_="lead") or table.find_parent("details")
    chapter = table.find_previous("h2")
    near = filter(None, (table.find_previous(_is_picture), table.find_next(_is_picture)))
    return not stays and any(picture.find_previous("h2") is chapter for picture in near)


def _is_picture(tag: Any) -> bool:
    """A picture, or the word that it stands at the top."""
    return tag.name == "img" or "moved" in tag.get("class", [])


# What a page would load from elsewhere.

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LOADING = (
    "src", "srcset", "imagesrcset", "href", "xlink:href", "poster", "data", "background", "ping",
)  # fmt: skip
LINKS = {"a": ("ping",), "area": ("ping",)}  # a reader follows them; what they load of themselves
AWAY = r"(?:(?:https?|wss?|ftp):|[/\\]{2})"  # how an address of elsewhere begins
ADDRESS = re.compile(rf"(?:[\d.]+[wxh],)?{AWAY}", re.IGNORECASE)
STYLE = re.compile(
    rf"""(?:\b(?:url|src|image-set)\(|@import)\s*['"]?\s*({AWAY}[^'")\s]*)""", re.IGNORECASE
)
SCRIPT = re.compile(
    r"""(?:\b(?:import|from)\b\s*\(?|\.src\s*=|\blocation(?:\.href)?\s*=|"""
    r"""\b(?:fetch|open|importScripts|sendBeacon|\w*Worker|WebSocket|EventSource)\s*\("""
    rf"""(?:\s*["'`]\w+["'`]\s*,)?)\s*["'`]\s*({AWAY}[^"'`\s]*)""", re.IGNORECASE,
)  # fmt: skip


def external_loads(html: str) -> list[str]:
    """What a page would load from elsewhere, in its frames too; links that a reader follows do not.

    Tags, styles and refreshes, and scripts where an address stands as text beside ``import``,
    ``fetch``, ``XMLHttpRequest`` and the like. A script may put an address together unseen: those
    on our pages are of libraries alone, whose bundles name such calls without an address, and text
    of the data cannot become a script, since ``plots.style.escape`` and ``plots.live`` escape it.

    Examples
    --------
    >>> external_loads('<a href="https://x.org">x</a><script src="https://x.org/a.js"></script>')
    ["<script src='https://x.org/a.js'>"]
    """
    from bs4 import BeautifulSoup

    tags = BeautifulSoup(html, "html.parser").find_all(True)
    return [load for tag in tags for load in _loads_of(tag)]


def _loads_of(tag: Any) -> list[str]:
    texts = {name: str(value) for name, value in tag.attrs.items()}
    frame, loads = texts.pop("srcdoc", ""), []
    scripts = [text for name, text in texts.items() if name.startswith("on")]
    for name in texts.keys() & LINKS.get(tag.name, LOADING):
        address = "".join(texts[name].split())  # browsers drop breaks inside an address
        if any(map(ADDRESS.match, [address, *texts[name].split()])):
            loads.append(f"<{tag.name} {name}={texts[name]!r}>")
        scripts.append(address if address.lower().startswith("javascript:") else "")
    if tag.name == "meta" and texts.get("http-equiv", "").lower() == "refresh":
        loads += filter(ADDRESS.match, re.split(r"[\s;,='\"]+", texts.get("content", "")))
    if tag.name == "script" and "json" not in texts.get("type", ""):
        scripts.append(tag.get_text())
    styles = [*texts.values(), tag.get_text() if tag.name == "style" else ""]
    loads += [url for text in styles for url in STYLE.findall(text)]
    loads += [url for text in scripts for url in SCRIPT.findall(text)]
    return loads + (external_loads(frame) if frame else [])


def _is_transient(output: dict) -> bool:
    """Whether an output means something only while the notebook runs: a widget, a progress bar."""
    is_bar = output.get("name") == "stderr" and "%|" in "".join(output.get("text", ""))
    return is_bar or WIDGET_VIEW in output.get("data", {})


# Around the pages: lists of them, and paper.


def list_page(path: Path, *, title: str, cards: Iterable[Mapping[str, Any]], **parts: Any) -> Path:
    """Write a page of cards (``card``), and of ``about``, ``tables``, ``files`` and ``up``."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    template = environment.get_template("index.html.j2")
    return write_text_whole(path, template.render(title=title, cards=list(cards), **parts))


def card(page: Path, *, title: str, href: str, lines: Iterable[str]) -> dict[str, Any]:
    """A page's entry in a list: its first picture made small, title and lines under it."""
    first = PICTURE.search(page.read_text(encoding="utf-8")) if page.is_file() else None
    small = _webp(first[3], wide_px=THUMBNAIL_PX) if first else ""
    picture, alt = (f"data:image/webp;base64,{small}", unescape(first[2])) if first else ("", "")
    return {"title": title, "href": href, "lines": [*lines], "picture": picture, "alt": alt}


def takeaway(folder: Path) -> str:
    """The first line that the first takeaway of a report's pages prints, or nothing."""
    texts = (page.read_text(encoding="utf-8") for page in sorted(folder.glob("[0-9]*.html")))
    first = next(filter(None, map(TAKEAWAY.search, texts)), None)
    return unescape(re.sub("<[^>]+>", "", first[1])) if first else ""


def _webp(picture: str, *, wide_px: int | None = None) -> str:
    """A picture in base64 as lossless WebP: 40 % of a PNG of a chart; or no wider than that."""
    from PIL import Image

    whole = Image.open(io.BytesIO(base64.b64decode(picture)))
    if wide_px:
        whole.thumbnail((wide_px, whole.height))
    packed = io.BytesIO()
    whole.save(packed, "WEBP", lossless=True, method=1)  # more method gains 1 %, and costs seconds
    return base64.b64encode(packed.getvalue()).decode()


def _packed(frame: str) -> str:
    """An interactive view in a third of its bytes, which browsers since 2023 unpack."""
    packed = base64.b64encode(gzip.compress(frame.encode(), mtime=0)).decode()
    return escape((TEMPLATES / "packed.html.j2").read_text("utf-8").replace("PAGE", packed))


def to_pdf(page: str | Path) -> Path:
    """Print a page with Chromium: no navigation and no code, folded parts open; the file's path.

    Raises ``ParameterError`` where no Chromium is installed, or it prints nothing.
    """
    page = Path(page).resolve()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ParameterError(
            f"A PDF is printed by one of {', '.join(BROWSERS)}; none is installed. Install "
            f"Chromium (apt install chromium), or print {page.name} from any browser."
        )
    root = ["--no-sandbox"] if getattr(os, "geteuid", int)() == 0 and os.name == "posix" else []

    def write(target: Path) -> None:
        command = [browser, "--headless=new", "--disable-gpu", *root, "--no-pdf-header-footer",
                   f"--print-to-pdf={target}", page.as_uri()]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if not Path(target).is_file():
            raise ParameterError(f"{browser} printed no {page.name}: {done.stderr[-300:].strip()}")

    return write_whole(page.with_suffix(".pdf"), write)
