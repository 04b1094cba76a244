"""What the page shows, and who may do what there, broken."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_THE_PAGE"]

MANY, PAGES, ACTING, LIVE = "tests/web/test_many", "tests/web/test_pages", "tests/web/test_acting", "tests/web/test_live"
BOUNDED = "tests/web/test_bounded"

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
        '        return said == "same-origin"',
        '        return said != "cross-site"',
        ACTING + " -k another_site",
    ),
    Mutant(
        "where browsers do not say of which site a form is, a sibling's is obeyed",
        'host != "" and host.lower() in ours',
        'host != ""',
        ACTING + " -k another_site",
    ),
    Mutant(
        "what does not say of which site it is is obeyed",
        '    return scheme in ("http", "https") and host',
        '    return not host or scheme in ("http", "https") and host',
        ACTING + " -k another_site",
    ),
    Mutant(
        "a form without a cookie is obeyed",
        "    if not cookie or not",
        "    if not",
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
        "all that is stuck is asked about, whatever it is stuck for",
        'status="stuck", name=cause.name, step=cause.step, cause=cause.cause, limit=200):\n'
        "        if most and (row.step, row.cause) == (cause.step, cause.cause):",
        'status="stuck", limit=200):\n        if most:',
        MANY + " -k mended",
    ),
    Mutant(
        "what is stuck anew is acted on by an old question",
        "    if since is not None and not math.isclose(",
        "    if False and not math.isclose(",
        MANY + " -k those_alone",
    ),
    Mutant(
        "more than were asked for are acted on",
        "            most -= 1\n",
        "",
        MANY + " -k part",
    ),
    Mutant(
        "what was done before the store went away is not told",
        "            if not acted:\n                raise\n",
        "            raise\n",
        MANY + " -k halfway",
    ),
    Mutant(
        "each that looks asks the store for itself",
        "        feed = feeds.get(key)\n",
        "        feed = None\n",
        LIVE + " -k two_hundred",
    ),
    Mutant(
        "what an address has besides what is looked at makes another feed",
        "        values = [value for value in query.getlist(key) if value]",
        "        values = query.getlist(key)",
        LIVE + " -k ask_for_the_same",
    ),
    Mutant(
        "any number of things is looked at at once",
        "(key in feeds or len(feeds) < self.feeds) and sum",
        "sum",
        LIVE + " -k beyond",
    ),
    Mutant(
        "streams that come at once are all let in",
        "        if not self.has_room(key):  # any more",
        "        if False:",
        LIVE + " -k at_once",
    ),
    Mutant(
        "who comes after an action is told of what was before it",
        "        self.tag = self.shown = None  # nobody",
        "        pass  # nobody",
        LIVE + " -k nothing_older",
    ),
    Mutant(
        "each time causes are looked at, a journal is read for each",
        '            if before.get(cause[:3], ("",))[0] == cause.sample:',
        "            if False:",
        BOUNDED + " -k one_question",
    ),
    Mutant(
        "a page has a journal whole",
        "    items = kept[-_ENTRIES:]",
        "    items = kept",
        BOUNDED + " -k page_by_page",
    ),
    Mutant(
        "of very many steps those that concern a person are anywhere",
        "else sorted(steps, key=_concern)",
        "else steps[::-1]",
        BOUNDED + " -k concern",
    ),
    Mutant(
        "what takes long is asked for as often as anything",
        "max(every, SHARE * (loop.time() - began))",
        "every",
        LIVE + " -k rarely",
    ),
    Mutant(
        "a signal comes without its value",
        'await operations.asignal(saga_id, of, why, _value(form.get(f"value-{of}", "")))',
        "await operations.asignal(saga_id, of, why)",
        ACTING + " -k comes_with_its_value",
    ),
    Mutant(
        "the store is asked on when nobody looks",
        "                feed.task.cancel()\n",
        "                pass\n",
        LIVE + " -k nobody_looks",
    ),
    Mutant(
        "what waits on purpose is told with what nothing happens with",
        "if row.opens <= now and (row.owner is not None or row.due <= now)]",
        "]",
        PAGES + " -k on_purpose",
    ),
    Mutant(
        "what somebody holds and waits with is told, too",
        "                if waits is None or not held:",
        "                if True:",
        PAGES + " -k on_purpose",
    ),
    Mutant(
        "chips count what is not filtered",
        '        if {"status", "name"}.issuperset(wanted.filters):',
        "        if True:",
        PAGES + " -k counted",
    ),
    Mutant(
        "what came of a later decision is told of an earlier one",
        "            obeyed = len(found)\n",
        "            obeyed = obeyed or 0\n",
        "tests/web/test_decided",
    ),
    Mutant(
        "times at which nothing ran take their room",
        "            cut.add(after)\n",
        "",
        "tests/web/test_timeline",
    ),
    Mutant(
        "what failed at several steps is told as what failed at one",
        'reason = (row.reason or "").partition(" (")[0] if row.status == Status.STUCK else None',
        "reason = None",
        MANY + " -k told_apart",
    ),
]
