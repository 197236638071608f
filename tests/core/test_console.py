"""What commands share: whole numbers are whole, and one print for machines and people."""

import json

import pytest
from cyclopts import App

from deepfield.core.console import PARAMETERS, show


def test_a_fraction_is_refused_where_a_whole_number_is_meant(capsys):
    app = App(group_parameters=PARAMETERS, result_action="return_value")

    @app.default
    def command(*, n: int = 1, x: float = 1.0) -> tuple[int, float]:
        return n, x

    assert app(["--n", "5.0", "--x", "5.5"]) == (5, 5.5)
    with pytest.raises(SystemExit):
        app(["--n", "5.5"])
    assert "--n takes a whole number, not 5.5" in capsys.readouterr().err + capsys.readouterr().out


def test_show_prints_for_a_machine_or_for_a_person(capsys):
    show({"a": 1}, "a is one", as_json=False)
    assert capsys.readouterr().out == "a is one\n"
    show({"a": 1}, "a is one", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": 1}
