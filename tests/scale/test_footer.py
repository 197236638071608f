"""Parquet files put one behind the other, read by pyarrow as one."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.scale import _footer
from deepfield.scale._footer import _Reader, _struct, joined, read


def table(seed: int, rows: int = 1000) -> pa.Table:
    rng = np.random.default_rng(seed)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=3 * rows)), 3)
    words = pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 2, rows, dtype=np.int8)), pa.array(["", "no"]))
    columns = {f"c{i}": rng.normal(size=rows) for i in range(20)}  # more than 15: the long form of a list
    return pa.table(
        {"id": rng.integers(-9, 9, rows), "lists": lists, "words": words, "none": pa.nulls(rows), **columns}
    )


PLAIN = {"compression": "NONE", "use_dictionary": False, "write_statistics": False}
RICH = {
    "compression": "zstd",
    "write_page_index": True,
    "write_statistics": True,
    "store_decimal_as_integer": True,
}


@pytest.mark.parametrize("options", [PLAIN, RICH], ids=["plain", "rich"])
def test_a_footer_is_written_as_it_was_read(tmp_path, options):
    pq.write_table(table(0).replace_schema_metadata({"note": "x" * 300}), tmp_path / "a.parquet", **options)
    data = (tmp_path / "a.parquet").read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    assert _struct(read(tmp_path / "a.parquet")) == data[-8 - size : -8]


@pytest.mark.parametrize("options", [PLAIN, RICH], ids=["plain", "rich"])
def test_files_behind_one_another_are_one_file(tmp_path, options):
    tables = [table(seed, rows) for seed, rows in enumerate((1000, 1, 5000))]
    footers, whole = [], b""
    for number, part in enumerate(tables):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(part, path, row_group_size=700, **options)
        footers.append((read(path), len(whole)))
        whole += path.read_bytes()  # its own footer may stay: nobody looks there
    (tmp_path / "whole.parquet").write_bytes(whole + joined(footers))
    found = pq.ParquetFile(tmp_path / "whole.parquet")
    assert found.read().to_pydict() == pa.concat_tables(tables).to_pydict()
    assert found.metadata.num_row_groups == 2 + 1 + 8
    assert found.read_row_group(2).to_pydict() == tables[1].to_pydict()
    if options is RICH:
        column = found.metadata.row_group(5).column(0)
        assert column.has_offset_index and column.statistics is not None


def test_files_of_different_schemas_are_not_one_file(tmp_path):
    for number, kind in enumerate((pa.int64(), pa.float64())):
        pq.write_table(pa.table({"a": pa.array([1, 2], kind)}), tmp_path / f"{number}.parquet")
    footers = [(read(tmp_path / f"{number}.parquet"), 0) for number in range(2)]
    with pytest.raises(DeepfieldError, match=r"part 1 .* another schema"):
        joined(footers)


@pytest.mark.parametrize("number", [0, 1, -1, 63, -64, 64, 127, 128, 2**31, -(2**31), 2**63 - 1, -(2**63)])
def test_integers_of_any_size(number):
    assert _Reader(_footer._integer(number)).integer() == number
