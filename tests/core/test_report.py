"""The report is one file that needs nothing, and the same numbers as JSON."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from deepfield.core import figures
from deepfield.core.errors import DeepfieldError
from deepfield.core.report import Report, machine, peak_memory


class Pair:
    def __init__(self, value, error):
        self.value, self.error = value, error

    def __str__(self):
        return f"{self.value} ± {self.error}"


ROWS = [
    {"method": "ours", "crps": Pair(0.10, 0.01), "bias": -0.02, "coverage_683": "0.70 ± 0.01", "n": 1000},
    {"method": "theirs", "crps": Pair(0.11, 0.01), "bias": 0.01, "coverage_683": "0.60 ± 0.01", "n": 1000},
    {"method": "<b>old</b>", "crps": Pair(0.50, 0.01), "bias": float("nan"), "n": 1000},
]


@pytest.fixture
def report():
    report = Report("A & B", "two <methods>")
    report.facts({"seed": 0, "rows": 12345, "share": 0.7, "nothing": None})
    report.text("First **bold** and *slanted*, `code <x>`.\n\nA [link](https://example.org).", heading="Words")
    best = {"crps": "min", "bias": 0, "coverage_683": 0.683}
    report.table("scores", ROWS, "Scores of all. More words.", best=best)
    figure = figures.coverage_curve(np.linspace(0, 1, 1001), {"ours": np.linspace(0, 1, 1001)}, n=100)
    report.figure("coverage", figure, "Coverage: against level.")
    return report


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.tags, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        self.links += [attrs[key] for key in ("href", "src") if key in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_from_outside(report, tmp_path):
    report.write(tmp_path)
    text = (tmp_path / "index.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    outside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert outside == ["https://example.org"]  # a link of the words themselves
    assert {"script", "link", "iframe"}.isdisjoint(page.tags) and "url(" not in text and "@import" not in text
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
    assert sorted(file.name for file in tmp_path.iterdir()) == ["index.html", "report.json"]


def test_words_of_others_are_escaped(report, tmp_path):
    report.write(tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "A &amp; B" in text and "two &lt;methods&gt;" in text
    assert "&lt;b&gt;old&lt;/b&gt;" in text and "<b>old</b>" not in text
    assert "<strong>bold</strong>" in text and "<em>slanted</em>" in text and "<code>code &lt;x&gt;</code>" in text


def test_html_is_taken_as_such_only_when_it_says_so(tmp_path):
    import markupsafe

    report = Report("t")
    report.text(markupsafe.Markup("<table></table>"))
    report.text("<table></table>")
    report.write(tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert text.count("<table></table>") == 1 and "&lt;table&gt;" in text


def test_the_best_and_those_within_its_error_are_bold(report, tmp_path):
    report.write(tmp_path)
    text = (tmp_path / "index.html").read_text()
    bold = re.findall(r'class="num best"><span class="value">([^<]*)<', text)
    assert bold == ["0.1", "0.70", "0.11", "0.01"]  # crps 0.10 and 0.11 tie; bias 0.01; coverage 0.70
    assert "less than their errors" in text and "σ<sub>" not in text and ">CRPS<" in text
    assert ">−0.02<" in text and ">1,000<" in text and ">–<" in text


def test_the_json_has_the_same_numbers(report, tmp_path):
    content = report.write(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == content
    rows = content["tables"]["scores"]["rows"]
    assert rows[0]["crps"] == {"value": 0.10, "error": 0.01} and rows[2]["bias"] is None
    assert content["facts"] == {"seed": 0, "rows": 12345, "share": 0.7, "nothing": None}
    lines = content["figures"]["coverage"]["axes"][0]["lines"]
    assert {"ours"} <= {line["label"] for line in lines} and all(len(line["x"]) <= 256 for line in lines)
    assert content["title"] == "A & B" and content["format"] == 1
    assert {"deepfield", "numpy", "python"} <= set(content["machine"]["versions"])


def test_numpy_values_become_plain(tmp_path):
    report = Report("t")
    report.table("a", [{"x": np.float32(0.5), "y": np.arange(2), "z": np.int64(3), "w": np.bool_(True)}])
    row = report.write(tmp_path)["tables"]["a"]["rows"][0]
    assert row == {"x": 0.5, "y": [0, 1], "z": 3, "w": True}


def test_writing_again_replaces_the_whole(report, tmp_path):
    report.write(tmp_path / "new" / "folder")
    first = (tmp_path / "new" / "folder" / "index.html").read_text()
    report.text("more")
    report.write(tmp_path / "new" / "folder")
    assert len((tmp_path / "new" / "folder" / "index.html").read_text()) > len(first)


def test_a_name_serves_once_and_fits_an_address(report):
    with pytest.raises(DeepfieldError, match="has 'coverage' already"):
        report.table("coverage", [])
    with pytest.raises(DeepfieldError, match="should be made of letters"):
        report.table("a b", [])
    with pytest.raises(DeepfieldError, match="'min', 'max' or a number"):
        report.table("c", ROWS, best={"crps": "least"})


def test_an_empty_report_and_an_empty_table_are_pages_too(tmp_path):
    report = Report("Nothing")
    report.table("none", [])
    report.write(tmp_path)
    Page((tmp_path / "index.html").read_text())


def test_heavy_figures_become_pixels(monkeypatch):
    monkeypatch.setattr("deepfield.core.report._LARGEST_SVG", 100)
    report = Report("t")
    report.figure("pit", figures.pit_histogram(np.linspace(0, 1, 100)))
    assert report._parts[0]["source"].startswith("data:image/png;base64,")


def test_the_machine_is_described():
    about = machine()
    assert about["cores"] >= 1 and about["processor"]
    memory = peak_memory()
    assert memory is None or 20 < memory < 100_000
