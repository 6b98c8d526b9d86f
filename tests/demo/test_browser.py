"""The page in a real browser: what a person does, and what then stands there."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio")


def ask(page, query):
    """Types a query and presses Enter; waits for its results."""
    page.fill("#g-query textarea, #g-query input", query)
    page.keyboard.press("Enter")


def test_it_opens_with_an_example_and_says_what_it_is(open_page, picture):
    """Heading, three steps, the first example's results with the first reason open."""
    page = open_page()
    assert page.locator("h1").inner_text() == "Generative retrieval"
    assert page.locator(".g-three-steps li").count() == 3
    assert page.input_value("#g-query textarea, #g-query input") == "black owl"
    assert page.locator(".g-hit .g-title").first.inner_text() == "The black owl"
    assert page.locator(".g-hit details[open]").count() == 1
    picture(page, "results")


def test_search_and_the_reasons(open_page, retriever):
    """Another query: its results, and level by level what could be written."""
    page = open_page()
    ask(page, "red fox on the hill")
    page.wait_for_function("document.querySelector('.g-hit .g-title').innerText == 'The red fox'")
    (hit, second, *_) = retriever.search("red fox on the hill", k=10)
    why = retriever.explain("red fox on the hill", second.id)
    card = page.locator(".g-hit").nth(1)
    assert not card.locator(".g-why").is_visible()
    card.locator("summary").click()
    assert card.locator(".g-step").count() == len(hit.docid) + 1
    for level, step in enumerate(why.steps):
        taken = card.locator(".g-step").nth(level).locator(".g-taken")
        assert taken.locator(".g-chip").inner_text() == "-".join(map(str, step.taken.prefix))
        assert taken.locator(".g-words").inner_text() == ", ".join(step.taken.words)
    assert "q=red+fox+on+the+hill" in page.url


def test_a_link_opens_what_it_names(open_page):
    """Query, number of results and filter from the address; they stay in it."""
    page = open_page("?q=white+owl&k=2&field=place&value=roof")
    assert page.input_value("#g-query textarea, #g-query input") == "white owl"
    assert page.locator("#g-results .g-hit").count() == 2
    assert "place limited to “roof”" in page.locator("#g-message").inner_text()
    page.wait_for_function("location.search.includes('value=roof')")
    assert "k=2" in page.url and "field=place" in page.url


def test_an_example_is_a_click(open_page):
    """It stands in the box and is asked."""
    page = open_page()
    page.locator(".g-example", has_text="red fox on the hill").click()
    page.wait_for_function("document.querySelector('.g-hit .g-title').innerText == 'The red fox'")
    assert page.input_value("#g-query textarea, #g-query input") == "red fox on the hill"


def test_a_filter(open_page, picture):
    """Chosen on the page: only documents that hold the value."""
    page = open_page()
    page.locator("#g-options button").first.click()
    page.locator("#g-field input").click()
    page.get_by_role("option", name="place").click()
    page.wait_for_timeout(500)
    page.locator("#g-value input").fill("roof")
    page.keyboard.press("Enter")
    page.wait_for_selector("#g-message :text('place limited to')")
    snippets = page.locator("#g-results .g-snippet").all_inner_texts()
    assert snippets and all("on the roof" in one for one in snippets)
    picture(page, "filter")


def test_three_systems_side_by_side(open_page, picture):
    """Three columns with times; places in the others."""
    page = open_page()
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector(".g-column ol li")
    assert page.locator(".g-column h3").count() == 3
    assert all("ms" in one for one in page.locator(".g-time").all_inner_texts())
    assert "Dense 1" in page.locator(".g-column").first.locator(".g-also").first.inner_text()
    picture(page, "compare")


def test_the_browser_of_ids(open_page, picture):
    """From a result's code to its prefix, on to a bucket and its documents, and back to all."""
    page = open_page()
    chip = page.locator(".g-hit .g-docid .g-chip").first
    code = chip.inner_text()
    chip.click()
    page.wait_for_selector(f".g-crumbs .g-chip:text-is('{code}')")
    assert page.locator(".g-tile").first.is_visible()
    picture(page, "browse")
    page.locator(".g-tile").first.click()
    page.wait_for_selector("#g-tree .g-hit .g-title")
    page.locator(".g-crumb").click()
    page.wait_for_selector("#g-tree .g-sun")
    page.locator(".g-sun path").first.click()
    page.wait_for_selector(".g-crumbs .g-chip")


def test_wrong_and_empty_questions(open_page, picture):
    """A sentence in the place of results; the next question works."""
    page = open_page("?q=owl&field=id&value=zz", wait=".g-wrong")
    assert (
        "The index holds no document with the id 'zz'." in page.locator("[role=alert]").inner_text()
    )
    assert page.locator("#g-results .g-hit").count() == 0
    picture(page, "error")
    page.locator("#g-options button").first.click()
    page.locator("#g-field input").click()
    page.get_by_role("option", name="everywhere").click()
    ask(page, "   ")
    page.wait_for_selector("#g-message :text('Type a query first.')")
    ask(page, "owl " * 3000)
    page.wait_for_selector("#g-results .g-hit")


def test_markup_of_a_document_is_text(open_page):
    """It is shown, and does nothing."""
    page = open_page("?q=zebra")
    assert "<img src=x onerror=alert(1)> title" in page.locator(".g-hit").first.inner_text()
    assert page.locator(".g-hit img").count() == 0


def test_a_phone(open_page, picture, width=360):
    """Nothing is wider than the screen, whichever view."""
    page = open_page(width=width, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture(page, "phone")
    for name in ("Compare", "Browse ids"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        picture(page, f"phone-{name.lower().replace(' ', '-')}")


def test_dark(open_page, picture):
    """The page's own colours follow."""
    page = open_page("?__theme=dark&q=white+fox")
    background = page.locator(".g-hit").first.evaluate("e => getComputedStyle(e).backgroundColor")
    channels = [int(part) for part in background.strip("rgba()").split(",")[:3]]
    assert max(channels) < 80
    assert "__theme=dark" in page.url
    picture(page, "dark")
