"""Executed notebooks to one HTML file that asks the network for nothing."""

import re
from html.parser import HTMLParser

import nbformat
from jinja2 import DictLoader
from nbconvert import HTMLExporter

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LOADING_TAGS = {
    "script": ("src",), "link": ("href",), "img": ("src", "srcset"), "iframe": ("src",),
    "source": ("src", "srcset"), "video": ("src", "poster"), "audio": ("src",),
    "embed": ("src",), "object": ("data",), "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}  # fmt: skip
ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
LOADING_STYLE = re.compile(
    r"""(?:url\(|@import)\s*['"]?\s*((?:https?:)?//[^'")\s]+)""", re.IGNORECASE
)
TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{% block input_group -%}
<details class="soilkit-code"><summary>code</summary>{{ super() }}</details>
{%- endblock input_group %}
{%- block html_head_css -%}
<style>
body { max-width: 62rem; margin: 0 auto; padding: 1rem 1.5rem; }
details.soilkit-code > summary { cursor: pointer; color: #777; font: 0.75rem sans-serif; }
.jp-RenderedHTMLCommon { overflow-x: auto; }
.jp-OutputPrompt, .jp-InputPrompt { display: none; }
.jp-RenderedHTMLCommon img, .jp-RenderedImage img { max-width: 100%; height: auto; }
</style>
{%- endblock -%}
"""


class _Loads(HTMLParser):
    """Collects what a browser would fetch from elsewhere when it opens the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.in_style = tag == "style"
        for name, value in attrs:
            if value and name in LOADING_TAGS.get(tag, ()) and ELSEWHERE.match(value):
                self.found.append(f"<{tag} {name}={value!r}>")
            if value and name == "style":
                self.found += LOADING_STYLE.findall(value)

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.found += LOADING_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False


def external_loads(html: str) -> list[str]:
    """What a page would load from elsewhere: scripts, styles, images, frames; links do not count.

    Examples
    --------
    >>> external_loads('<a href="https://x.org">x</a><script src="https://x.org/a.js"></script>')
    ["<script src='https://x.org/a.js'>"]
    """
    parser = _Loads()
    parser.feed(html)
    return parser.found


def _is_transient(output: dict) -> bool:
    """Whether an output means something only while the notebook runs: a widget, a progress bar."""
    if WIDGET_VIEW in output.get("data", {}):
        return True
    return output.get("name") == "stderr" and "%|" in "".join(output.get("text", ""))


def to_html(notebook: nbformat.NotebookNode, title: str) -> str:
    """One self-contained HTML page of an executed notebook, code folded.

    Widgets and progress bars, which mean something only beside a running kernel, are left out:
    notebooks set a static picture beside each interactive view.

    Raises
    ------
    ValueError
        If the page would still load something from the network.
    """
    page = nbformat.from_dict(notebook)
    page.metadata.pop("widgets", None)
    page.metadata["title"] = title
    for cell in page.cells:
        outputs = cell.get("outputs", [])
        cell["outputs"] = [o for o in outputs if not _is_transient(o)]
        if cell.cell_type != "code":
            cell.pop("outputs", None)
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"offline.html.j2": TEMPLATE})],
        template_file="offline.html.j2",
    )
    html, _ = exporter.from_notebook_node(page)
    loads = external_loads(html)
    if loads:
        raise ValueError(
            f"{title} would load {len(loads)} things from the network, first {loads[0]}. "
            "Embed them, or show a static picture instead."
        )
    return html
