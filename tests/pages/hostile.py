"""Text that would like to be more than text, and whether a page let it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

HOSTILE = (
    "</title></textarea></script>\"'><script>window.hurt=1</script>"
    '<img src=x onerror=window.hurt=2>" autofocus onfocus=window.hurt=3 x="'
    "{{7919*7907}}{% raise %}\r\n\r\nevent: task\u202e\x1b[31m"
)
"""Leaves every place of a page it could stand in, and then runs something that sets
``window.hurt``. Short enough to be searched for, and for an id."""

SCRIPTED = "javascript:window.hurt=4"


def hurt(page: Page) -> Any:
    """What ran on *page* that came out of a text; None for nothing."""
    return page.evaluate("window.hurt ?? null")


def planted(page: Page) -> list[str]:
    """Markup of *page* that none of ours is: handlers, scripts without a file, links that are
    scripts, and elements that load something. Looks into widgets as well."""
    found: list[str] = page.evaluate(
        """() => {
            const found = [];
            if (document.contentType === "text/plain") return found; // the browser's own markup
            const loads = new Set(["img", "iframe", "object", "embed", "base", "style"]);
            const leads = ["href", "src", "action", "formaction"];
            const script = /^\\s*(javascript|data):/i;
            const look = (root) => {
                for (const each of root.querySelectorAll("*")) {
                    const names = each.getAttributeNames();
                    const odd =
                        names.some((name) => name.startsWith("on") || name === "style") ||
                        loads.has(each.localName) ||
                        (each.localName === "script" && !each.src.startsWith(location.origin)) ||
                        leads.some((name) => script.test(each.getAttribute(name) ?? ""));
                    if (odd) found.push(each.outerHTML.slice(0, 200));
                    if (each.shadowRoot) look(each.shadowRoot);
                }
            };
            look(document);
            return found;
        }"""
    )
    return found


def assert_harmless(page: Page, where: str) -> None:
    """Nothing that came out of a text has run on *page*, or could, and no template took it for
    one of its own."""
    page.wait_for_load_state()
    # Whatever waits for a pointer or the focus gets both.
    page.evaluate(
        """() => {
            for (const each of document.querySelectorAll("main *")) {
                each.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
                each.focus?.();
            }
        }"""
    )
    assert hurt(page) is None, f"{where}: {hurt(page)} ran"
    assert planted(page) == [], where
    # Long enough that no random id or token has these digits.
    assert str(7919 * 7907) not in page.content(), where
