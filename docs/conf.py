"""Sphinx configuration. The build needs no network; DEEPFIELD_DOCS_ONLINE=1 adds links to other projects."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated

import deepfield

project = "deepfield"
author = "The deepfield developers"
copyright = "The deepfield developers, BSD-3-Clause"
version = release = deepfield.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "mathsvg",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_templates", "benchmarks/*"]
default_role = "py:obj"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_use_plots = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Inventories of other projects are fetched from the network, which a build must not need.
intersphinx_mapping = {}
if os.environ.get("DEEPFIELD_DOCS_ONLINE"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "astropy": ("https://docs.astropy.org/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

templates_path = ["_templates"]

html_math_renderer = "mathsvg"
html_theme = "pydata_sphinx_theme"
html_title = "deepfield"
html_static_path = ["_static"]
html_css_files = ["deepfield.css"]
html_theme_options = {
    "logo": {"text": "deepfield"},
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "contributing": [], "changelog": []}
html_show_sourcelink = False

_BARS = re.compile(r"``[^`]*``|`[^`]*`|\|")


def _escape_bars(_app: object, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Write |dz| in a docstring as it is meant: an absolute value, not a substitution of docutils."""
    for i, line in enumerate(lines):
        if "|" in line and not line.lstrip().startswith((">>>", "...", "..", ":math:")):
            lines[i] = _BARS.sub(lambda m: r"\|" if m[0] == "|" else m[0], line)


def _fill(_app: object, _name: str, source: list[str]) -> None:
    source[0] = generated.fill(source[0])


def setup(app: object) -> None:
    """Connect the hooks above."""
    app.connect("autodoc-process-docstring", _escape_bars)
    app.connect("source-read", _fill)
