"""The page over HTTP, as a program asks it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from hf_genret.demo.answers import EMPTY


@pytest.fixture(scope="module")
def client(address):
    """Of the served page."""
    return pytest.importorskip("gradio_client").Client(address, verbose=False)


def test_search_gives_hits(client, retriever):
    """Those of search(), as plain values; a filter holds."""
    hits = client.predict("black owl", 3, "place", "roof", api_name="/search")
    expected = retriever.search("black owl", k=3, only=lambda one: one["place"] == "roof")
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    assert hits[0]["docid"] == list(expected[0].docid) and hits[0]["title"] == "The black owl"
    assert hits[0]["score"] == pytest.approx(expected[0].score, abs=1e-6)


def test_explain_and_browse(client, retriever):
    """The same values as from the package."""
    found = client.predict("black owl", "red-fox-hill", api_name="/explain")
    expected = retriever.explain("black owl", "red-fox-hill").to_dict()
    assert found == json.loads(json.dumps(expected))
    tree = client.predict("", api_name="/browse")
    assert tree["documents"] == 21 and tree["ids"] == [] and tree["children"][0]["words"]


@pytest.mark.parametrize(
    ("asked", "name", "said"),
    [
        (("", 3), "/search", EMPTY),
        (("owl", 3, "place", "moon"), "/search", "no document holds 'moon'"),
        (("owl", "zz"), "/explain", "no document with the id 'zz'"),
        (("7-7-7",), "/browse", "no docid begins with '7-7-7'"),
    ],
)
def test_what_is_wrong_is_said(client, asked, name, said):
    """One sentence; nothing of the machine."""
    with pytest.raises(Exception, match=said) as caught:
        client.predict(*asked, api_name=name)
    assert "Traceback" not in str(caught.value)


def test_only_reading_is_offered(client):
    """Three endpoints; what belongs to the page is not callable by programs."""
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/search", "/explain", "/browse"}


def test_no_files_are_taken(address):
    """An upload is refused."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        + b"words " * 100
        + b"\r\n--x--\r\n"
    )
    request = urllib.request.Request(
        f"{address}gradio_api/upload",
        body,
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    assert caught.value.code == 413
