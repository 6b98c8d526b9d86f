from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_genret.errors import DataError
from hf_genret.indexing.id_files import read_ids, write_ids

IDS = ["a", "b c", "7"]


def tsv(folder: Path, *lines: str, name: str = "ids.tsv") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def jsonl(folder: Path, *docids: object) -> Path:
    records = [json.dumps({"_id": i, "docid": d}) for i, d in zip(IDS, docids, strict=True)]
    return tsv(folder, *records, name="ids.jsonl")


def test_tsv_in_any_order(tmp_path: Path) -> None:
    """Codes come in the order of the corpus, sizes from the largest codes."""
    codes, sizes = read_ids(tsv(tmp_path, "7\t5-0", "a\t3-17", "b c\t0-2"), IDS)
    assert codes.tolist() == [[3, 17], [0, 2], [5, 0]]
    assert codes.dtype == np.int32 and sizes == [6, 18]


def test_tsv_with_header_blank_lines_and_gzip(tmp_path: Path) -> None:
    """A header is none of the documents; a packed file is unpacked."""
    path = tmp_path / "ids.tsv.gz"
    path.write_bytes(gzip.compress(b"_id\tdocid\na\t1\n\nb c\t2\n7\t0\n"))
    assert read_ids(path, IDS)[0].tolist() == [[1], [2], [0]]


def test_jsonl_takes_lists_and_dashes(tmp_path: Path) -> None:
    """Both ways to write codes, and a number as a document's id."""
    codes, _ = read_ids(jsonl(tmp_path, [1, 2], "3-4", [5, 6]), IDS)
    assert codes.tolist() == [[1, 2], [3, 4], [5, 6]]
    path = tsv(tmp_path, '{"_id": 7, "docid": [3]}', name="numbers.jsonl")
    assert read_ids(path, ["7"])[0].tolist() == [[3]]


@pytest.mark.parametrize("name", ["document", "_id", "id", "item_id"])
def test_documents_may_be_called_as_anywhere_else(tmp_path: Path, name: str) -> None:
    """Also as the table of `hf-genret export --ids` calls them, which has a column more."""
    rows = [{name: "b", "docid": "3-1", "bucket": 1}, {name: "a", "docid": "0-2", "bucket": 0}]
    jsonl, tsv = tmp_path / "ids.jsonl", tmp_path / "ids.tsv"
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tsv.write_text(f"{name}\tdocid\nb\t3-1\na\t0-2\n")
    for path in (jsonl, tsv):
        assert read_ids(path, ["a", "b"])[0].tolist() == [[0, 2], [3, 1]]


def test_short_ids_end_with_code_zero_and_all_codes_go_up(tmp_path: Path) -> None:
    """Lengths 1 to 3: 0 is the end, every code of the file one more."""
    codes, sizes = read_ids(jsonl(tmp_path, [0], [3, 17], [3, 17, 2]), IDS)
    assert codes.tolist() == [[1, 0, 0], [4, 18, 0], [4, 18, 3]]
    assert sizes == [5, 19, 4]


@pytest.mark.parametrize("name", ["new/ids.tsv", "ids.jsonl", "IDS.TSV"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    """Either format; ids that repeat are as good as others."""
    codes = np.array([[0, 3], [2, 0], [0, 3]], dtype=np.int32)
    write_ids(tmp_path / name, IDS, codes)
    found, sizes = read_ids(tmp_path / name, IDS)
    assert np.array_equal(found, codes) and sizes == [3, 4]


@given(
    st.integers(1, 4).flatmap(
        lambda levels: st.lists(
            st.lists(st.integers(0, 2**31 - 2), min_size=levels, max_size=levels),
            min_size=1,
            max_size=5,
        )
    )
)
def test_any_codes_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]
) -> None:
    """Whatever fits 32 bits."""
    path = tmp_path_factory.mktemp("ids") / "ids.tsv"
    names = [f"d{row}" for row in range(len(rows))]
    write_ids(path, names, np.array(rows, dtype=np.int32))
    assert read_ids(path, names)[0].tolist() == rows


GOOD = ["a\t1-2", "b c\t3-4"]


@pytest.mark.parametrize(
    ("last", "where", "what"),
    [
        ("x\t1-2", "line 3, field '_id'", "found 'x' which the corpus lacks"),
        ("a\t1-2", "line 3, field '_id'", "found 'a' which line 1 has already"),
        ("\t1-2", "line 3, field '_id'", "expected an id, found none"),
        ("7", "line 3", "expected a document's id, a tab and its codes, found '7'"),
        ("7\t1\t2", "line 3", "a tab and its codes"),
        ("7\t", "line 3, field 'docid'", "expected codes, found none"),
        ("7\t1--2", "line 3, field 'docid'", "found '' in \"1--2\""),
        ("7\t-1", "line 3, field 'docid'", "whole numbers from 0"),
        ("7\t1-x", "line 3, field 'docid'", "found 'x' in \"1-x\""),
        ("7\t1.5", "line 3, field 'docid'", "found '1.5'"),
        ("7\t2147483647", "line 3, field 'docid'", "to 2147483646, found '2147483647'"),
        ("7\t" + "9" * 5000, "line 3, field 'docid'", "whole numbers"),
    ],
)
def test_every_fault_of_a_tsv_line_is_named(
    tmp_path: Path, last: str, where: str, what: str
) -> None:
    """File, line, field, what was expected and what was found."""
    path = tsv(tmp_path, *GOOD, last)
    with pytest.raises(DataError) as caught:
        read_ids(path, IDS)
    assert f"{path}, {where}: " in str(caught.value) and what in str(caught.value)


@pytest.mark.parametrize(
    ("docid", "what"),
    [
        ([1, -2], "found -2 in [1, -2]"),
        ([1, 2.0], "found 2.0"),
        ([True], "found True in [true]"),
        ([None], "found None in [null]"),
        ([[1]], "found [1]"),
        ([], "expected codes, found none"),
        ("", "expected codes, found none"),
        (None, "a list or as 3-17-2, found null"),
        (12, "a list or as 3-17-2, found 12"),
        ({"1": 2}, "a list or as 3-17-2, found an object"),
    ],
)
def test_every_fault_of_json_codes_is_named(tmp_path: Path, docid: object, what: str) -> None:
    """Codes are whole numbers from 0 and nothing that looks like it."""
    with pytest.raises(DataError, match=r"line 2, field 'docid'") as caught:
        read_ids(jsonl(tmp_path, [1, 2], docid, [3, 4]), IDS)
    assert what in str(caught.value)


def test_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    """The reader's own sentence."""
    with pytest.raises(DataError, match="line 1: expected one JSON object a line"):
        read_ids(tsv(tmp_path, "a\t1", name="ids.jsonl"), IDS)


def test_documents_without_an_id_are_named(tmp_path: Path) -> None:
    """Three by name, the others by number; a corpus or file without anything too."""
    path = tsv(tmp_path, "d4\t1")
    with pytest.raises(
        DataError, match=r"each of 6 documents, found none for 'd0', 'd1', 'd2' and 2"
    ):
        read_ids(path, [f"d{row}" for row in range(6)])
    with pytest.raises(DataError, match=r"each of 2 documents, found none for 'd5'\."):
        read_ids(path, ["d4", "d5"])
    with pytest.raises(DataError, match="each of 0 documents"):
        read_ids(tsv(tmp_path, name="empty.tsv"), [])


def test_files_that_cannot_be_are_named(tmp_path: Path) -> None:
    """Another ending, no such file."""
    with pytest.raises(DataError, match=r"ids\.csv: expected a file of ids that ends in \.tsv"):
        read_ids(tmp_path / "ids.csv", IDS)
    with pytest.raises(DataError, match="cannot be read"):
        read_ids(tmp_path / "ids.tsv", IDS)


def test_writing_refuses_what_could_not_be_read(tmp_path: Path) -> None:
    """Shapes, negative codes, endings, tabs in ids; nothing is left behind."""
    codes = np.zeros((3, 2), dtype=np.int32)
    for wrong in (codes[:2], codes[0], codes - 1):
        with pytest.raises(ValueError, match="Expected codes from 0, one row for each of 3"):
            write_ids(tmp_path / "ids.tsv", IDS, wrong)
    for name in ("ids.csv", "ids.tsv.gz"):
        with pytest.raises(DataError, match=r"ends in \.tsv or \.jsonl"):
            write_ids(tmp_path / name, IDS, codes)
    with pytest.raises(DataError, match=r"holds a tab or a line break: write a \.jsonl"):
        write_ids(tmp_path / "ids.tsv", ["a", "b\tc", "d"], codes)
    assert list(tmp_path.iterdir()) == []
