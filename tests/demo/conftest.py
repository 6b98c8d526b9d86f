"""A retriever with something to filter by, its page on a port, and a browser where there is one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hf_genret.data.schema import Documents
from hf_genret.demo import build_demo, serve, tiny_retriever

SHOTS = Path(__file__).resolve().parents[2] / "runs" / "screenshots"
"""Ignored by git; looked at by people."""
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def retriever():
    """21 documents: colours, animals and places, one of them with markup in it."""
    ids, titles, texts, places = [], [], [], []
    for colour in ("red", "blue", "green", "black", "white"):
        for animal in ("fox", "owl"):
            for place in ("hill", "roof"):
                ids.append(f"{colour}-{animal}-{place}")
                titles.append(f"The {colour} {animal}")
                texts.append(f"A {colour} {animal} on the {place}. " * 12)
                places.append(place)
    more = ("odd", f"{MARKUP} title", f"zebra {MARKUP}", f"{MARKUP}")
    for column, value in zip((ids, titles, texts, places), more, strict=True):
        column.append(value)
    documents = Documents(ids, titles, texts, {"place": places})
    return tiny_retriever(documents, codebook_sizes=[3, 4], dim=256)


@pytest.fixture(scope="session")
def address(retriever):
    """The page of the retriever, served."""
    pytest.importorskip("gradio")
    demo = build_demo(retriever, examples=["black owl", "red fox on the hill"])
    _, local, _ = serve(demo, prevent_thread_lock=True, quiet=True)
    yield local
    demo.close()


def chromium_path() -> str | None:
    """A Chromium of this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser():
    """The machine's Chromium; without one tests are skipped, except where they have to run."""
    path = chromium_path()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        reason = "no Chromium or no playwright on this machine (apt-get install chromium)"
        if os.environ.get("GENRET_BROWSER_TESTS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = found.new_context()  # one for all: what a page loads is fetched once
        context.set_default_timeout(120_000)  # of a machine that has other things to do
        yield context
        found.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the page, waits for the first results, and minds what the browser complains of."""
    pages, complaints = [], []

    def opened(query="", *, width=1280, height=900, wait=".g-hit"):
        page = browser.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type == "error" else None,
        )
        page.goto(address + query)
        page.wait_for_selector(wait)
        return page

    yield opened
    for page in pages:
        page.close()
    outside = ("ERR_INTERNET_DISCONNECTED", "ERR_NAME_NOT_RESOLVED", "Failed to load resource")
    assert not [one for one in complaints if not any(name in one for name in outside)]


@pytest.fixture
def picture():
    """Keeps a picture of a page for people."""

    def keep(page, name):
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    return keep
