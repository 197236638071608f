"""The command line: each science brings its verbs (``<science>/commands.py``), this file brings them together.

Sciences load when they are named, so that ``deepfield --help`` answers at once.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import warnings
from pathlib import Path

from cyclopts import (
    App,
    CycloptsError,
    UnusedCliTokensError,
    ValidationError,
)

import deepfield
from deepfield.core.console import PARAMETERS, Json, show
from deepfield.core.errors import DeepfieldError

EPILOGUE = """
Start here: `deepfield run photoz --out report` reads a real survey sample, trains, calibrates and writes a report.

Then yours: `deepfield photoz train galaxies.parquet --out model`, and
`deepfield photoz predict model new.parquet --out pz.parquet`. The other sciences have the same verbs, and models
that are trained already (`deepfield models`). Every command explains itself with `--help`.
"""


app = App(
    name="deepfield",
    group_parameters=PARAMETERS,
    help="Survey data in, calibrated probabilities out.",
    help_epilogue=EPILOGUE,
    version=deepfield.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main says what to do next
)
app.register_install_completion_command()
data = App(name="data", help="Real data sets: where they come from, how to get and cite them.")
app.command(data)
for _science in deepfield.SCIENCES:
    app.command(f"deepfield.{_science}.commands:app", name=_science, help=deepfield.SCIENCES[_science])


@app.command
def run(science: str | None = None, *, data: str = "", out: Path = Path("report"), json: Json = False) -> None:
    """Run the main job of a science on real data and write a report; without a name, of every science.

    Parameters
    ----------
    science
        Which science; all of them if left out.
    data
        A registered data set (`deepfield data list`) in place of the science's own choice.
    out
        Folder for `index.html` and `report.json`, one folder per science where several run.
    """
    import importlib

    names = [science] if science else list(deepfield.SCIENCES)
    if unknown := [n for n in names if n not in deepfield.SCIENCES]:
        raise DeepfieldError(f"no science '{unknown[0]}'; there are: {', '.join(deepfield.SCIENCES)}")
    for name in names:
        folder = out if science else out / name
        report = importlib.import_module(f"deepfield.{name}").run(data or None, out=folder)
        show(report, f"report: {folder / 'index.html'}", as_json=json)


@app.command
def export(model: Path, *, out: Path) -> None:
    """Export a saved model to ONNX, for any runtime and language.

    Parameters
    ----------
    model
        A folder that a `train` command wrote.
    out
        The file to write, `model.onnx`.
    """
    import importlib

    from deepfield.core.store import load

    domain = load(model).domain
    if domain not in deepfield.SCIENCES:
        raise DeepfieldError(f"{model} is a model of '{domain}', which this deepfield does not know")
    importlib.import_module(f"deepfield.{domain}").export(model, out)
    print(f"written: {out}", file=sys.stderr)


@app.command
def models(*, json: Json = False) -> None:
    """List the trained models that come with deepfield: give their name where a command asks for MODEL."""
    from deepfield.core.store import load, shipped

    saved = {name: load(folder) for name, folder in shipped().items()}
    rows = [{"name": name, "science": model.domain, "card": model.card} for name, model in saved.items()]
    lines = [f"{name:<26} {model.domain:<12} {model.card.get('about', '')}" for name, model in saved.items()]
    show(rows, "\n".join(lines), as_json=json)


@data.command(name="list")
def list_(*, json: Json = False) -> None:
    """List the registered data sets."""
    from deepfield.data import registry

    sets = registry.list_datasets()
    rows = [
        {
            "name": d.name,
            "here": registry.available(d.name),
            "title": d.title,
            "science": d.science,
            "rows": d.rows,
            "licence": d.licence,
            "home": d.home,
        }
        for d in sets
    ]
    lines = [f"{'*' if r['here'] else ' '} {r['name']:<26} {r['rows']:>8,} rows  {r['title']}" for r in rows]
    show(
        rows,
        "\n".join([*lines, "(* is on this machine; the others are downloaded when asked for)"]),
        as_json=json,
    )


@data.command
def get(name: str, *, json: Json = False) -> None:
    """Fetch a data set and print where it is."""
    from deepfield.data import registry

    paths = [str(p) for p in registry.get(name)]
    show(paths, "\n".join(paths), as_json=json)


@data.command
def cite(name: str) -> None:
    """Print how to cite a data set, and its licence."""
    from deepfield.data import registry

    print(registry.cite(name))


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        kind = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"deepfield: {kind}{record.getMessage()}"


class _Speaker(logging.Handler):
    """To whatever stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _speak() -> None:
    """Messages of the library and warnings go to stderr, a line each."""
    handler = _Speaker()
    handler.setFormatter(_OneLine())
    logger = logging.getLogger("deepfield")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_args, **_kw: logger.warning("%s", message)


def _one_line(error: Exception) -> str:
    """The message of an error; an error of the system names its file."""
    if isinstance(error, OSError) and not isinstance(error, DeepfieldError) and error.strerror and error.filename:
        return f"'{error.filename}': {error.strerror.lower()}"
    return " ".join(str(error).split())


def _misread(error: CycloptsError, given: list[str]) -> str:
    """What is wrong with the words of a command; bands that were written with spaces are shown with commas."""
    if not isinstance(error, UnusedCliTokensError):
        own = error.exception_message if isinstance(error, ValidationError) and error.group else ""
        return " ".join((own or str(error)).split())
    hint = ""
    if "--bands" in given:
        listed = itertools.takewhile(str.isalnum, given[given.index("--bands") + 1 :])
        hint = f": bands are written with commas, --bands {','.join(listed)}"
    return f"not understood: {' '.join(error.unused_tokens or ())}{hint}"


def _unheard() -> bool:
    """Whether nobody reads stdout any more (``| head``); what is left for it is then dropped."""
    try:
        print(flush=True)  # a pipe that broke elsewhere would be an error
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
        return True
    return False


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; bad input gives one line on stderr and exit code 2."""
    _speak()
    debug = bool(os.environ.get("DEEPFIELD_DEBUG"))
    try:
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        given = sys.argv[1:] if arguments is None else arguments
        print(f"deepfield: {_misread(error, given)} (see --help)", file=sys.stderr)
        return 2
    except (DeepfieldError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _unheard():
            return 0
        if debug:
            raise
        print(f"deepfield: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        after = f"the same command {stop}" if str(stop) else "run the same command again to go on"
        print(f"\ndeepfield: interrupted; {after}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
