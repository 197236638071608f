r"""Mathematics as SVG drawn by matplotlib: no page needs a script from the network, or a font of the reader's.

What matplotlib's mathtext cannot read gives a warning and is shown as TeX: write ``\frac{1}{2}``, not
``\frac12``, ``\mathrm{d}``, not ``\mathrm d``, ``\left(`` or plain brackets, not ``\bigl(``.
"""

from __future__ import annotations

import html
from typing import Any

import numpy as np
from docutils import nodes
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from sphinx.util import logging

_UNIT = 100.0  # of the drawing, in one em
_FONT = FontProperties(size=_UNIT, math_fontfamily="dejavuserif")
_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}


def svg(tex: str) -> str:
    """Draw a formula; its colour is that of the text around it. ValueError if mathtext cannot read it."""
    source = "$" + " ".join(tex.split()) + "$"
    width, height, depth = text_to_path.get_text_width_height_descent(source, _FONT, ismath=True)
    vertices, codes = text_to_path.get_text_path(_FONT, source, ismath=True)
    parts = []
    path = Path(np.asarray(vertices) * [1, -1] + [0, height - depth], codes)
    for points, code in path.iter_segments(simplify=False, curves=True):
        numbers = "" if code == Path.CLOSEPOLY else " ".join(f"{p:.1f}" for p in points)
        parts.append(_LETTERS[code] + numbers)
    size = f'width="{width / _UNIT:.3f}em" height="{height / _UNIT:.3f}em"'
    box = f'viewBox="0 0 {width:.1f} {height:.1f}" style="vertical-align: {-depth / _UNIT:.3f}em"'
    title = html.escape(tex, quote=True)
    return f'<svg class="formula" role="img" aria-label="{title}" {size} {box}><path d="{"".join(parts)}"/></svg>'


def _drawn(node: nodes.Element) -> str:
    tex = node.astext()
    try:
        return svg(tex)
    except ValueError as error:
        reason = str(error).splitlines()[-1]
        logging.getLogger(__name__).warning("formula %r: %s", tex, reason, location=node)
        return f"<code>{html.escape(tex)}</code>"


def inline(translator: Any, node: nodes.Element) -> None:
    """Write a formula within a line."""
    translator.body.append(_drawn(node))
    raise nodes.SkipNode


def display(translator: Any, node: nodes.Element) -> None:
    """Write a formula on a line of its own."""
    translator.body.append(f'<div class="formula">{_drawn(node)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathsvg", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
