"""What the commands of all sciences share on the command line."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import ArgumentCollection, Group, Parameter

Json = Annotated[bool, Parameter(negative="", help="Print one JSON document for machines.")]


def _whole(arguments: ArgumentCollection) -> None:
    """Refuse 5.5 where a whole number is meant, which would be rounded."""
    for argument in arguments:
        for token in argument.tokens if argument.hint is int else ():
            if "." in token.value and not float(token.value).is_integer():
                raise ValueError(f"{argument.name} takes a whole number, not {token.value}")


PARAMETERS = Group("Parameters", validator=_whole)
"""Of every ``App``: commands take the group of the one they are registered with."""


def show(content: dict[str, Any] | list[Any], text: str, *, as_json: bool) -> None:
    """Print for a machine or for a person."""
    print(json.dumps(content, indent=1) if as_json else text)
