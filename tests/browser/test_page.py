"""The page as people see it, in a real browser, on a real system."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visit
from tests.browser.scene import TOKEN, Scene

SERIOUS: Final = ("serious", "critical")
FLOWING: Final = (
    "order-confirmation.commands",
    "order-details.queries",
    "email.commands",
    "email.events",
    "order-confirmation.events",
)
NUMBER: Final = re.compile(r"[1-9]")


def rate_of(page: Page, topic: str) -> Locator:
    """Return where *topic*'s rate stands on the picture."""
    return page.locator("#topology-picture g.arrow", has_text=topic).locator(".rate")


def test_token_lets_in_and_stays_in_memory(visit: Visit) -> None:
    """A wrong one doesn't; loading the page again asks anew, and nothing is stored."""
    page = visit.page
    page.goto(visit.url)
    expect(page.locator("#board")).to_be_hidden()
    page.get_by_label("Token").fill("another-0123456789")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That isn't the token.")
    visit.open()
    expect(page.get_by_role("heading", name="All is well")).to_be_visible()
    stored = page.evaluate("() => [document.cookie, localStorage.length, sessionStorage.length]")
    assert ["", 0, 0] == stored
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()
    visit.wrong = [line for line in visit.wrong if "401" not in line]


def test_rates_and_figures_follow_what_flows(visit: Visit, running: Scene) -> None:
    """Of every topic that a confirmation passes, while they come; back to nothing afterwards."""
    page = visit.open()
    with running.flowing():
        for topic in FLOWING:
            expect(rate_of(page, topic)).to_have_text(NUMBER)
        expect(page.locator("#topology-picture .flow")).not_to_have_count(0)
    expect(rate_of(page, "order-confirmation.commands")).to_have_text("0/s")
    expect(page.locator("#figures > div", has_text="Lag").locator("dd").first).to_have_text("0")
    rows = page.locator("#lag-body details", has_text="order-confirmation.commands")
    rows.locator("summary").click()
    expect(rows.locator("tbody tr")).to_have_count(4)
    # Opened, it stays open while numbers go on coming.
    told = page.locator("#told-by").text_content() or ""
    expect(page.locator("#told-by")).not_to_have_text(told)
    expect(rows.locator("tbody tr").first).to_be_visible()


def test_search_by_keyboard_opens_an_order_of_any_worker(visit: Visit, running: Scene) -> None:
    """Its timeline, in order, with the record that caused each step; it has the focus, and an address."""
    orders = running.deliver(6)
    page = visit.open()
    for order_id in orders:
        page.get_by_label("Order", exact=True).fill(order_id)
        page.keyboard.press("Enter")
        expect(page.locator("#order h2")).to_have_text(f"Order {order_id}")
        events = page.locator("#order .timeline .what strong")
        expect(events.first).to_have_text("CommandReceived")
        expect(events.last).to_have_text("EmailSent")
        expect(page.locator("#order .timeline li").last).to_contain_text(re.compile(r"email\.events/\d/\d+"))
        expect(page.locator("#order .badge").first).to_contain_text("sent")
        expect(page.locator("#order h2")).to_be_focused()
        assert page.url.endswith(f"#/orders/{order_id}")
    page.get_by_role("link", name="Close").click()
    expect(page.locator("#order")).to_be_hidden()


def test_order_that_nobody_knows_is_said_to_be_unknown(visit: Visit) -> None:
    """Whatever characters its id has; nothing of it becomes markup."""
    page = visit.open()
    page.get_by_label("Order", exact=True).fill("<img src=x onerror=alert(1)>/..?#%2F")
    page.keyboard.press("Enter")
    expect(page.locator("#order")).to_contain_text("Nothing is remembered of this order")
    expect(page.locator("#order img")).to_have_count(0)
    visit.wrong = [line for line in visit.wrong if "404" not in line]


def test_what_fails_and_what_is_refused_is_told(visit: Visit, running: Scene) -> None:
    """The failed order opens with a click, dead letters are counted by reason, and the verdict says so."""
    page = visit.open()
    (order_id,) = running.fail(1)
    running.refuse(3)
    expect(page.locator("#failures")).to_contain_text("ORDER_NOT_FOUND")
    page.locator("#failures").get_by_role("link", name=order_id).click()
    expect(page.locator("#order .timeline")).to_contain_text("ConfirmationFailed")
    expect(page.locator("#dead-letters tbody tr")).to_have_count(1)
    expect(page.locator("#dead-letters tbody .number")).to_have_text("3")
    expect(page.get_by_role("heading", name="Worth a look")).to_be_visible()
    expect(page.locator(".findings")).to_contain_text("rejoinder dead-letters list")


def test_service_that_is_gone_is_told_first(visit: Visit, running: Scene) -> None:
    """Who waits for it as well, until when; and that it is back."""
    page = visit.open()
    running.system.orders.stop()
    try:
        (order_id,) = running.world.orders(1)
        running.world.command([order_id])
        expect(page.get_by_role("heading", name="Needs you now")).to_be_visible()
        expect(page.locator(".findings li").first).to_contain_text("-orders has no member: nobody reads")
        expect(page.locator("#waiting tr", has_text="awaiting details").locator(".number").first).to_have_text("1")
        page.get_by_label("Order", exact=True).fill(order_id)
        page.keyboard.press("Enter")
        expect(page.locator("#order .to-come")).to_contain_text("Waits for order details")
        expect(page.locator("#order .to-come")).to_contain_text("gives up at")
    finally:
        running.system.orders.start()
    expect(page.get_by_role("heading", name="Needs you now")).to_be_hidden()
    # The open order goes on by itself.
    expect(page.locator("#order .timeline .what strong").last).to_have_text("EmailSent")


def test_page_finds_its_worker_again(visit: Visit, running: Scene) -> None:
    """With the token that it was given; until then what is old looks old."""
    page = visit.open()
    worker = running.system.workers[0]
    worker.stop()
    expect(page.locator("#board")).to_have_class(re.compile("stale"))
    worker.start()
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#board")).not_to_have_class(re.compile("stale"))
    running.system.wait_ready()
    # Chromium's own words for a server that is away.
    visit.wrong = [line for line in visit.wrong if "net::ERR_" not in line]


@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_nobody_is_kept_out(visit: Visit, running: Scene) -> None:
    """axe-core finds nothing serious, wide or narrow, with everything open; and nothing is wider than the window."""
    (order_id, *_) = running.deliver(1)
    page = visit.page
    page.goto(visit.url)
    expect(page.get_by_label("Token")).to_be_visible()
    assert [] == _found(page)
    visit.open(f"/#/orders/{order_id}")
    expect(page.locator("#order .timeline li").first).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()
    for width in (360, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        narrow = page.locator(f"svg.topology.{'narrow' if width == 360 else 'wide'}")
        expect(narrow).to_be_visible()
        assert [] == _found(page)
        assert width >= page.evaluate("() => document.scrollingElement.scrollWidth")
    assert TOKEN not in page.content()


def _found(page: Page) -> list[dict[str, Any]]:
    """Return what axe-core calls serious or worse."""
    violations = Axe().run(page).response["violations"]
    return [
        {"rule": one["id"], "where": [node["target"] for node in one["nodes"]]}
        for one in violations
        if one["impact"] in SERIOUS
    ]
