"""What README and docs say works: Python blocks run, commands run or parse, links lead somewhere."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepfield
from deepfield import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_COMMANDS = ("README.md", "docs/quickstart.md")
RUN_PYTHON = (
    "README.md",
    "docs/quickstart.md",
    "docs/photoz.md",
    "docs/morphology.md",
    "docs/inference.md",
    "docs/emulators.md",
    "docs/scale.md",
    "docs/data.md",
)
SLOW = ("run", "data get")  # these are parsed, not run: they are the main job, and downloads
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    lines = "\n".join(blocks(page, "bash")).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("deepfield ")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the texts assume: galaxies.parquet, new.parquet and a model."""
    from deepfield import data, photoz

    folder = tmp_path_factory.mktemp("docs")
    cli.main(["morphology", "simulate", "-n", "100", "--size", "32", "--out", str(folder / "galaxies.hdf5")])
    galaxies = photoz.simulate(1200, survey="sdss", seed=0)
    data.write(galaxies, folder / "galaxies.parquet")
    data.write(photoz.simulate(300, survey="sdss", seed=1), folder / "new.parquet")
    photoz.train(galaxies, members=1, epochs=2, progress=False).save(folder / "model")
    return folder


@pytest.fixture
def here(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the current one, and no fit of more than three epochs."""
    from deepfield.core.fit import FitConfig

    begin = FitConfig.__init__

    def short(self: FitConfig, **settings: Any) -> None:
        begin(self, **{**settings, "epochs": min(settings.get("epochs", 3), 3)})

    monkeypatch.setattr(FitConfig, "__init__", short)
    monkeypatch.chdir(files)
    return files


@pytest.mark.parametrize("page", RUN_PYTHON)
def test_python_runs(page: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from deepfield import data

    names: dict[str, object] = {}
    found = blocks(ROOT / page, "python")
    assert found
    if page == "docs/data.md" and not data.available("sdss_mgs"):
        pytest.skip("the data set is not at hand")
    for body in found:
        exec(compile(body, page, "exec"), names)
    assert ("sigma_nmad" in capsys.readouterr().out) == ("photoz.score" in "".join(found))
    if "density" in names:
        density = np.asarray(names["density"])
        assert np.isfinite(density).all() and (density >= 0).all()


@pytest.mark.parametrize("page", RUN_COMMANDS)
def test_commands_run(page: str, here: Path) -> None:
    ran = [words for words in commands(ROOT / page) if not " ".join(words).startswith(SLOW)]
    assert len(ran) > 5
    for words in ran:
        if "simulate" in words:  # fewer galaxies, the same files
            words = [w if not w.isdigit() or words[i - 1] != "-n" else "600" for i, w in enumerate(words)]
        if "onnx" in words or words[0] == "export":
            pytest.importorskip("onnxscript")
        assert cli.main(words) == 0, words
    assert (here / "pz.parquet").is_file() and (here / "model.onnx").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    for words in commands(page):
        if words[0].startswith("--"):
            assert words[0] in ("--version", "--help", "--install-completion")
            continue
        cli.app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles(page: Path) -> None:
    for body in blocks(page, "python"):
        compile(body, page.name, "exec")


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"^make (\w+)", "\n".join(blocks(page, "bash")), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in _LINK.findall(text):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"
    for name in re.findall(r"\{doc\}`(?:[^`<]*<)?([\w/]+)>?`", text):
        assert (ROOT / "docs" / f"{name}.md").is_file() or (ROOT / "docs" / f"{name}.rst").is_file(), name


def test_what_lies_below_redshift_zero_is_what_was_measured() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "photoz_below_zero.json").read_text())
    text = (ROOT / "docs" / "photoz.md").read_text(encoding="utf-8")
    told = f"{found['share_above_5_percent']:.2%} have more than 5 % there, the worst {found['largest']:.0%} ("
    assert re.sub(r"(?<=\d)%", " %", told) in text


def test_figures_are_small() -> None:
    for figure in (ROOT / "docs" / "_static").glob("*.png"):
        assert figure.stat().st_size < 200_000, figure


def test_api_names_exist() -> None:
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    names = re.findall(r"^   ([a-z_]+(?:\.\w+)+)$", text, re.MULTILINE)
    assert len(names) > 50
    for name in names:
        module, _, attribute = f"deepfield.{name}".rpartition(".")
        found = getattr(importlib.import_module(module), attribute)
        assert found.__doc__ and not isinstance(found, types.ModuleType), name


def test_skeleton_of_a_science_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that CONTRIBUTING shows are a package that trains, predicts and covers."""
    from deepfield.core.table import Table

    package = tmp_path / "supernovae"
    package.mkdir()
    (package / "__init__.py").touch()
    for body in blocks(ROOT / "CONTRIBUTING.md", "python"):
        path = re.match(r"# src/deepfield/supernovae/(\w+\.py)\n", body)
        assert path
        (package / path[1]).write_text(body)
    monkeypatch.setattr(deepfield, "__path__", [*deepfield.__path__, str(tmp_path)])
    train = importlib.import_module("deepfield.supernovae.train")
    config = importlib.import_module("deepfield.supernovae.model").SupernovaConfig
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=1500) for name in ("peak_mag", "stretch", "colour")}
    truth = 40 + columns["peak_mag"] + 0.5 * columns["stretch"] + 0.1 * rng.normal(size=1500)
    fitted, test = Table({**columns, "mu": truth}).split(0.8, seed=0)
    model, conformal = train.train(fitted, config(members=1, epochs=20))
    low, high = train.predict(model, conformal, test).interval(0.9)
    covered = np.mean((test["mu"] >= low) & (test["mu"] <= high))
    assert 0.82 < covered < 0.97 and np.median(high - low) < 1.0
    with pytest.raises(deepfield.core.errors.DeepfieldError, match="members must be at least 1"):
        config(members=0)
    for name in [name for name in sys.modules if name.startswith("deepfield.supernovae")]:
        del sys.modules[name]
