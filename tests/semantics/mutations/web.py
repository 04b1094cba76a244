"""What the page shows, and who may do what there, broken."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_THE_PAGE"]

PAGES, ACTING, LIVE = "tests/web/test_pages", "tests/web/test_acting", "tests/web/test_live"

OF_THE_PAGE = [
    Mutant(
        "what users write is no text on the page",
        "        autoescape=True,",
        "        autoescape=False,",
        PAGES + " -k users_write",
    ),
    Mutant(
        "lines are forged on the page",
        "        finalize=_plain,",
        "        finalize=lambda value: value,",
        PAGES + " -k forged",
    ),
    Mutant(
        "values are shown of sagas whose masks nobody knows",
        "    if not values and key in VALUES:",
        "    if False:",
        PAGES + " -k values",
    ),
    Mutant(
        "browsers run the scripts of others",
        "default-src 'self'; base-uri",
        "default-src *; base-uri",
        PAGES + " -k lets_a_browser",
    ),
    Mutant(
        "the forms of other sites are obeyed",
        'not cookie or not hmac.compare_digest(form.get("csrf", "").encode(), cookie.encode())',
        "not cookie",
        ACTING + " -k another_site",
    ),
    Mutant(
        "requests that a browser says are another site's are obeyed",
        "    if not ours or not cookie",
        "    if not cookie",
        ACTING + " -k another_site",
    ),
    Mutant(
        "a form without a cookie is obeyed",
        "    if not ours or not cookie or not",
        "    if not ours or not",
        ACTING + " -k nobodys_browser",
    ),
    Mutant(
        "a cookie signs in whoever it names",
        "return who if genuine and time.time() < int(until) else None",
        "return who if time.time() < int(until) else None",
        ACTING + " -k cookie_that_was_changed",
    ),
    Mutant(
        "a cookie lasts for ever",
        "return who if genuine and time.time() < int(until) else None",
        "return who if genuine else None",
        ACTING + " -k cookie_that_was_changed",
    ),
    Mutant(
        "who may retry may do anything",
        "who = await self._visitors.who(request, action)\n        if who is None:",
        'who = await self._visitors.who(request, "retry")\n        if who is None:',
        ACTING + " -k some_things",
    ),
    Mutant(
        "a private page is streamed to everybody",
        "            if not await self._visitors.may_look(request):\n                return",
        '            if "live" not in request.query_params and not await self._visitors.may_look(request):\n'
        "                return",
        ACTING + " -k private",
    ),
    Mutant(
        "all that is stuck is acted on, whatever it is stuck for",
        'operations.aall(status="stuck", name=cause.name, step=cause.step, cause=cause.cause):\n'
        "        if (row.step, row.cause) == (cause.step, cause.cause):",
        'operations.aall(status="stuck"):\n        if True:',
        ACTING + " -k one_cause",
    ),
    Mutant(
        "each that looks asks the store for itself",
        "        feed = feeds.get(key)\n",
        "        feed = None\n",
        LIVE + " -k two_hundred",
    ),
    Mutant(
        "the store is asked on when nobody looks",
        "                feed.task.cancel()\n",
        "                pass\n",
        LIVE + " -k nobody_looks",
    ),
]
