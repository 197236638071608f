"""The footer of a Parquet file, as far as is needed to put such files one behind the other as one.

Footers are written in Thrift's compact protocol (thrift/doc/specs/thrift-compact-protocol.md in the Apache Thrift
project); the field numbers are those of ``parquet.thrift`` in the Apache Parquet format, version 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepfield.core.errors import DeepfieldError

# A struct maps field numbers to (type, value); a list is (type of its elements, values).
Struct = dict[int, tuple[int, Any]]
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LIST, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, 9, 12
_SCHEMA, _ROWS, _GROUPS = 2, 3, 4  # of FileMetaData
_COLUMNS, _GROUP_AT = 1, 5  # of RowGroup
_CHUNK_AT = (2, 4, 6)  # of ColumnChunk: file_offset, offset_index_offset, column_index_offset
_META, _PAGES_AT = 3, (9, 10, 11, 14)  # of ColumnChunk; of ColumnMetaData: data, index, dictionary, bloom filter


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        self.at += n
        return self.data[self.at - n : self.at]

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def integer(self) -> int:
        number = self.varint()
        return (number >> 1) ^ -(number & 1)

    def value(self, kind: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return None
        if kind in _INTEGERS:
            return self.integer()
        if kind == _BINARY:
            return self.take(self.varint())
        if kind == _LIST:
            head = self.take(1)[0]
            size, inner = head >> 4, head & 15
            return inner, [self.value(inner) for _ in range(self.varint() if size == 15 else size)]
        if kind == _STRUCT:
            return self.struct()
        if kind in (_BYTE, _DOUBLE):
            return self.take(1 if kind == _BYTE else 8)
        raise ValueError(f"a Parquet footer has no field of type {kind}")

    def struct(self) -> Struct:
        found: Struct = {}
        number = 0
        while head := self.take(1)[0]:
            number = number + (head >> 4) if head >> 4 else self.integer()
            found[number] = (head & 15, self.value(head & 15))
        return found


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _integer(number: int) -> bytes:
    return _varint(number << 1 if number >= 0 else ((-number) << 1) - 1)


def _value(kind: int, value: Any) -> bytes:
    if kind in (_TRUE, _FALSE):
        return b""
    if kind in _INTEGERS:
        return _integer(value)
    if kind == _BINARY:
        return _varint(len(value)) + value
    if kind == _LIST:
        inner, values = value
        head = (
            bytes([len(values) << 4 | inner]) if len(values) < 15 else bytes([0xF0 | inner]) + _varint(len(values))
        )
        return head + b"".join(_value(inner, v) for v in values)
    return _struct(value) if kind == _STRUCT else value


def _struct(fields: Struct) -> bytes:
    out, before = [], 0
    for number, (kind, value) in fields.items():
        step = number - before
        out.append(bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _integer(number))
        out.append(_value(kind, value))
        before = number
    return b"".join(out) + b"\0"


def _moved(fields: Struct, numbers: tuple[int, ...], by: int) -> None:
    """Places in the file, of which 0 means none."""
    for number in numbers:
        kind, place = fields.get(number, (0, 0))
        if place:
            fields[number] = (kind, place + by)


def read(path: Path) -> Struct:
    """The footer of a Parquet file, or of a file that is nothing but a footer."""
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    return _Reader(data[-8 - size : -8]).struct()


def joined(footers: list[tuple[Struct, int]]) -> bytes:
    """The end of a file in which the rows of several files, of one schema, follow one another.

    Parameters
    ----------
    footers : list of (Struct, int)
        Of each file, and where it now begins; they are used up.

    Returns
    -------
    bytes
        What has to be written behind the last group of rows.

    Raises
    ------
    DeepfieldError
        If the schemas differ.
    """
    whole = footers[0][0]
    groups: list[Struct] = []
    for number, (footer, start) in enumerate(footers):
        if footer[_SCHEMA] != whole[_SCHEMA]:
            raise DeepfieldError(f"part {number} of a Parquet file has another schema than part 0")
        for group in footer[_GROUPS][1][1]:
            _moved(group, (_GROUP_AT,), start)
            for chunk in group[_COLUMNS][1][1]:
                _moved(chunk, _CHUNK_AT, start)
                _moved(chunk[_META][1], _PAGES_AT, start)
            groups.append(group)
    rows = sum(footer[_ROWS][1] for footer, _ in footers)
    whole |= {_ROWS: (whole[_ROWS][0], rows), _GROUPS: (_LIST, (_STRUCT, groups))}
    content = _struct(whole)
    return content + len(content).to_bytes(4, "little") + b"PAR1"
