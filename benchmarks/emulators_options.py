"""What the scripts of the emulators' benchmarks are asked for."""

from __future__ import annotations

import argparse
from pathlib import Path


def options(about: str | None, *what: str) -> argparse.ArgumentParser:
    """A parser for one of the parts ``what``, if there are several, a folder, and a limit of time."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    if what:
        parser.add_argument("what", choices=what)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work" / "emulators")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further cosmology after these")
    return parser
