"""Interactive views that carry everything they need."""

from html import escape
from typing import Any

import holoviews as hv
from bokeh.embed import file_html
from bokeh.resources import INLINE
from IPython.display import HTML


def live(view: Any, *, height_px: int = 430) -> HTML:
    """A hvplot or HoloViews view as one piece of HTML that works in notebooks and reports, offline.

    Its scripts are embedded (about a megabyte), in a frame of their own. Build the view with
    ``hvplot.hvPlot(table)(...)``: importing ``hvplot.pandas`` loads scripts from elsewhere. Print
    shows no frame, so set a static picture beside it.

    Parameters
    ----------
    view : HoloViews element or overlay
    height_px : int, of the frame

    Returns
    -------
    IPython HTML
    """
    hv.Store.set_current_backend("bokeh")
    page = file_html(hv.render(view, backend="bokeh"), resources=INLINE, title="interactive view")
    frame = (
        f'<div><iframe srcdoc="{escape(page)}" width="100%" height="{height_px}" frameborder="0">'
    )
    return HTML(f"{frame}</iframe></div>")
