"""Pages in a real browser."""

import base64
import hashlib

from kit.needs import require

PASSWORD_HASH = base64.b64encode(hashlib.sha256(b"sesame").digest()).decode()
"""Of the password of `admin`."""


class Watched:
    """A page of which nothing goes unseen: errors, and requests to other hosts."""

    def __init__(self, page, origin):
        self.page, self.wrong = page, []
        page.on("console", lambda one: self.wrong.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", self._asked)
        self._ours = (origin, f"blob:{origin}")

    def _asked(self, request):
        if not request.url.startswith(self._ours):
            self.wrong.append(request.url)


async def opened(browser, origin, path="/ui", **context):
    """The page at a path, looked at by somebody who knows the password."""
    made = await browser.new_context(
        http_credentials={"username": "admin", "password": "sesame"}, **context
    )
    watched = Watched(await made.new_page(), origin)
    await watched.page.goto(f"{origin}{path}")
    return watched


async def faults_of(page):
    """What axe finds wrong with a page as it is now."""
    # Evaluated in the page by the debugger, which its policy does not bind.
    await page.evaluate(require("axe-core").read_text())
    found = await page.evaluate("axe.run()")
    return [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]


async def overflow_of(page):
    """How many pixels a page is wider than its window."""
    return await page.evaluate("document.documentElement.scrollWidth - innerWidth")
