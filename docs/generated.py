"""Pages' tables made from the code itself, so that they cannot grow old.

A line ``<!-- generated: NAME ARGUMENTS -->`` in a page is replaced by what the function NAME below returns.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
_MARK = re.compile(r"^<!-- generated: (\S+) ?(.*?) -->$", re.MULTILINE)


def fill(text: str) -> str:
    """Replace every mark of a page by its table."""
    return _MARK.sub(lambda mark: PARTS[mark[1]](*mark[2].split()), text)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def usage(*command: str) -> str:
    """What ``--help`` prints."""
    from rich.console import Console

    from deepfield.cli import app

    text = io.StringIO()
    app.help_print(list(command), console=Console(file=text, width=88, color_system=None))
    shown = text.getvalue().split("\nStart here:")[0] if command else text.getvalue()
    return "```text\n" + "\n".join(line.rstrip() for line in shown.splitlines()).rstrip() + "\n```"


def datasets() -> str:
    """The registry of data sets."""
    from deepfield.data.registry import list_datasets

    rows = [
        [f"`{d.name}`", f"{d.rows:,}", "".join(d.bands), d.title, f"{d.citation}. *{d.licence}*"]
        for d in list_datasets()
    ]
    return _table(["name", "rows", "bands", "what", "cite, *licence*"], rows)


def presets() -> str:
    """The column presets, with the way each prefers to name a magnitude or flux."""
    from deepfield.data.presets import PRESETS

    rows = [
        [
            f"`{p.name}`",
            p.title,
            " ".join(p.bands) or "any",
            ", ".join(f"`{s.value}` ({s.unit})" for s in p.styles[:3]),
        ]
        for p in PRESETS.values()
    ]
    return _table(["preset", "survey", "bands", "columns, the preferred first"], rows)


def settings(science: str = "photoz", name: str = "PhotozConfig") -> str:
    """The fields of a science's configuration: their defaults and what its docstring says of them."""
    from numpydoc.docscrape import ClassDoc

    config = getattr(importlib.import_module(f"deepfield.{science}"), name)
    said = {}
    for names, _, words in ClassDoc(config)["Parameters"]:
        said |= dict.fromkeys(names.split(", "), " ".join(words).replace("``", "`"))
    rows = [[f"`{f.name}`", f"`{f.default!r}`", said.get(f.name, "")] for f in dataclasses.fields(config)]
    return _table(["setting", "default", "what"], rows)


def benchmark(science: str) -> str:
    """The page that the benchmark of a science wrote, if it has been run."""
    page = HERE / "benchmarks" / f"{science}.md"
    if page.is_file():
        text = re.sub(r"^# .*\n", "", page.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
        return re.sub(r"^##", "###", text, flags=re.MULTILINE)
    return (
        f"The benchmark has not been run yet: `make bench` runs `benchmarks/{science}.py`, which fills this part."
    )


PARTS: dict[str, Callable[..., str]] = {
    "usage": usage,
    "datasets": datasets,
    "presets": presets,
    "settings": settings,
    "benchmark": benchmark,
}
