"""One self-contained page for each run, and the same numbers as JSON.

The page needs no network and no script: styles are inline and figures are embedded. It reads in light and dark
and prints like a paper.
"""

from __future__ import annotations

import base64
import datetime
import html
import io
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic
from deepfield.core.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "sigma_nmad": "σ<sub>NMAD</sub>",
    "outlier_fraction": "outliers",
    "crps": "CRPS",
    "cde_loss": "CDE loss",
    "log_likelihood": "log-likelihood",
    "pit_ks": "PIT KS",
    "coverage_683": "coverage 68.3 %",
    "coverage_955": "coverage 95.5 %",
}
_LIBRARIES = ("deepfield", "numpy", "scipy", "torch", "astropy", "pyarrow", "zuko")
_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_MEASURED = re.compile(rf"^\s*(?P<value>{_NUMBER})(?:\s*±\s*(?P<error>{_NUMBER}))?\s*%?\s*$", re.IGNORECASE)
_LARGEST_SVG = 2_000_000


def machine() -> dict[str, Any]:
    """What this process runs on: versions of the libraries that are installed, processor, cores, peak memory.

    Examples
    --------
    >>> sorted(machine())
    ['cores', 'date', 'peak memory [MB]', 'platform', 'processor', 'versions']
    """
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "platform": platform.platform(aliased=True, terse=True),
        "processor": _processor(),
        "cores": cores,
        "peak memory [MB]": peak_memory(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.processor() or platform.machine()


def peak_memory() -> int | None:
    """Most memory this process has held, in MB (10^6 bytes); None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most * (1 if sys.platform == "darwin" else 1024) / 1e6)


class Report:
    """Collects facts, words, tables and figures, and writes them as ``index.html`` and ``report.json``.

    Parameters
    ----------
    title, subtitle : str
        At the head of the page.
    began : float, optional
        When the work began, by ``time.perf_counter()``; now, if not given.

    Examples
    --------
    >>> import tempfile
    >>> report = Report("A toy", "two methods")
    >>> report.table("scores", [{"method": "a", "crps": 0.2}, {"method": "b", "crps": 0.1}], best={"crps": "min"})
    >>> folder = tempfile.mkdtemp()
    >>> report.write(folder)["tables"]["scores"]["rows"][1]["crps"]
    0.1
    >>> sorted(os.listdir(folder))
    ['index.html', 'report.json']
    """

    def __init__(self, title: str, subtitle: str = "", *, began: float | None = None) -> None:
        self.title, self.subtitle = title, subtitle
        self._began = time.perf_counter() if began is None else began
        self._facts: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []
        self._content: dict[str, dict[str, Any]] = {"tables": {}, "figures": {}}
        self._words: list[str] = []

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Add short facts, shown as a list at the head: data, split, seed, time."""
        self._facts |= dict(facts)

    def text(self, words: str, *, heading: str = "") -> None:
        """Add paragraphs: blank lines part them, ``**bold**``, ``*italic*``, ```code``` and ``[links](url)``.

        An object with ``__html__`` (such as ``markupsafe.Markup``) is taken as HTML.
        """
        ready = words.__html__() if hasattr(words, "__html__") else _markdown(words)
        self._words.append(str(words))
        self._parts.append({"kind": "text", "id": f"text-{len(self._words)}", "title": heading, "html": ready})

    def table(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        caption: str = "",
        *,
        best: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add a table.

        Parameters
        ----------
        name : str
            Its key in the JSON.
        rows : sequence of mappings
            One for each row; columns are all keys in the order of their first appearance. A value is text, a
            number, or has ``value`` and ``error``.
        caption : str
            Above the table; its first sentence goes into the table of contents.
        best : mapping, optional
            For each column that has a best value 'min', 'max' or the number to be closest to. The best row is
            set bold, and so are rows that differ from it by less than their errors.
        labels : mapping, optional
            Headers of columns, HTML.

        Raises
        ------
        DeepfieldError
            If the name is taken or ``best`` makes no sense.
        """
        self._take("tables", name, {"caption": caption, "rows": [dict(row) for row in rows]})
        columns = list(dict.fromkeys(key for row in rows for key in row))
        marked = {column: _winners([row.get(column) for row in rows], aim) for column, aim in (best or {}).items()}
        heads = {**LABELS, **dict(labels or {})}
        cells = [[_cell(row.get(c), i in marked.get(c, ())) for c in columns] for i, row in enumerate(rows)]
        header = [heads.get(c, html.escape(str(c).replace("_", " "))) for c in columns]
        numeric = [all(line[j]["number"] for line in cells) for j in range(len(columns))]
        self._parts.append(
            {
                "kind": "table",
                "id": name,
                "title": _first_sentence(caption) or name,
                "caption": caption,
                "header": list(zip(header, numeric)),
                "rows": cells,
                "number": len(self._content["tables"]),
                "marked": bool(marked),
            }
        )

    def figure(self, name: str, figure: Figure, caption: str = "") -> None:
        """Add a matplotlib figure; its lines go into the JSON with at most 256 points each.

        Raises
        ------
        DeepfieldError
            If the name is taken.
        """
        self._take("figures", name, {"caption": caption, "axes": _lines(figure)})
        self._parts.append(
            {
                "kind": "figure",
                "id": name,
                "title": _first_sentence(caption) or name,
                "caption": caption,
                "source": _embedded(figure),
                "width": round(96 * figure.get_figwidth() * 1.05),
                "number": len(self._content["figures"]),
            }
        )

    def _take(self, kind: str, name: str, content: dict[str, Any]) -> None:
        if not re.fullmatch(r"[\w.-]+", name):
            raise DeepfieldError(f"'{name}' should be made of letters, digits, dots, dashes and underscores")
        if any(name in names for names in self._content.values()):
            raise DeepfieldError(f"the report has '{name}' already")
        self._content[kind][name] = content

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``: plain values; numbers that are not finite are None."""
        return {
            "format": 1,
            "title": self.title,
            "subtitle": self.subtitle,
            "facts": _plain(self._facts),
            "text": list(self._words),
            **_plain(self._content),
            "machine": machine(),
            "seconds": round(time.perf_counter() - self._began, 1),
        }

    def write(self, directory: str | os.PathLike[str]) -> dict[str, Any]:
        """Write ``index.html`` and ``report.json`` into a folder and return the content of the latter."""
        jinja2 = require("jinja2", extra="report")
        content = self.to_dict()
        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
        about = {k: v for k, v in content["machine"].items() if k != "versions" and v is not None}
        about |= {"time [s]": content["seconds"]}
        about["versions"] = ", ".join(
            f"{name} {version}" for name, version in content["machine"]["versions"].items()
        )
        page = template.render(
            title=self.title,
            subtitle=self.subtitle,
            facts={k: _show(v) for k, v in self._facts.items()},
            parts=self._parts,
            machine={k: _show(v) for k, v in about.items()},
        )
        folder = Path(directory)
        with atomic(folder / "index.html") as temporary:
            temporary.write_text(page, encoding="utf-8")
        with atomic(folder / "report.json") as temporary:
            temporary.write_text(
                json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8"
            )
        return content


def _plain(value: Any) -> Any:
    """JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "value") and hasattr(value, "error"):
        return {"value": _plain(value.value), "error": _plain(value.error)}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _show(value: Any) -> str:
    """As a reader wants it."""
    if value is None:
        return "–"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "–"
    text = str(value)
    return re.sub(r"^-(?=[\d.])", "−", text)


def _cell(value: Any, best: bool) -> dict[str, Any]:
    text, _, error = _show(value).partition("±")
    number = _measured(value) is not None
    return {"text": text.strip(), "error": f"± {error.strip()}" if error else "", "best": best, "number": number}


def _measured(value: Any) -> tuple[float, float] | None:
    """The number in a cell and its error (0 if unknown); None for text."""
    if hasattr(value, "value") and hasattr(value, "error"):
        return float(value.value), float(value.error)
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | float | np.integer | np.floating):
        return float(value), 0.0
    match = _MEASURED.match(value.replace("−", "-")) if isinstance(value, str) else None
    if match is None:
        return None
    number = float(match["value"].replace(",", ""))
    return number, float((match["error"] or "0").replace(",", ""))


def _winners(values: Sequence[Any], aim: Any) -> set[int]:
    """Rows with the best value, or one that is as good within the errors."""
    if aim not in ("min", "max") and not isinstance(aim, int | float):
        raise DeepfieldError(f"the best value of a column is 'min', 'max' or a number to be close to, not {aim!r}")
    found = {i: m for i, m in enumerate(map(_measured, values)) if m is not None and math.isfinite(m[0])}
    if len(found) < 2:
        return set()

    def cost(value: float) -> float:
        return {"min": value, "max": -value}[aim] if isinstance(aim, str) else abs(value - aim)

    first = min(found, key=lambda i: cost(found[i][0]))
    value, error = found[first]
    return {i for i, (v, e) in found.items() if cost(v) - cost(value) <= math.hypot(error or 0, e or 0)}


def _first_sentence(caption: str) -> str:
    return re.split(r"(?<!\d)[.;:](?:\s|$)", caption.strip(), maxsplit=1)[0]


def _markdown(words: str) -> str:
    """A few marks of Markdown; all else is escaped."""
    marks = (
        (r"`([^`]+)`", r"<code>\1</code>"),
        (r"\*\*([^*]+)\*\*", r"<strong>\1</strong>"),
        (r"\*([^*]+)\*", r"<em>\1</em>"),
        (r"\[([^\]]+)\]\((https?://[^)\s\"]+)\)", r'<a href="\2">\1</a>'),
    )
    paragraphs = []
    for block in re.split(r"\n\s*\n", words.strip()):
        text = html.escape(" ".join(block.split()), quote=False)
        for pattern, form in marks:
            text = re.sub(pattern, form, text)
        paragraphs.append(f"<p>{text}</p>")
    return "\n".join(paragraphs)


def _embedded(figure: Figure) -> str:
    """The figure as a data address: SVG, or PNG where that would be heavy."""
    from deepfield.core.figures import style

    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="svg", dpi=200, metadata={"Date": None})
        kind = "svg+xml"
        if buffer.tell() > _LARGEST_SVG:
            buffer, kind = io.BytesIO(), "png"
            figure.savefig(buffer, format="png", dpi=200)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _lines(figure: Figure) -> list[dict[str, Any]]:
    """What was drawn: for each panel its labels and lines."""
    panels = []
    for axes in figure.axes:
        lines = []
        for line in axes.get_lines():
            x, y = (np.asarray(v, dtype=float) for v in line.get_data())
            step = max(1, -(-len(x) // 256))
            name = str(line.get_label())
            thin = {"x": x[::step].tolist(), "y": y[::step].tolist()}
            lines.append({"label": "" if name.startswith("_") else name, **thin})
        if lines:
            panels.append({"xlabel": axes.get_xlabel(), "ylabel": axes.get_ylabel(), "lines": lines})
    return panels
