// What makes the page live: what changes is sent by the server, as HTML. Without this script every page works, and stands still.
"use strict";
const live = document.getElementById("live");
const trouble = document.getElementById("trouble");
const said = document.getElementById("said");

// -- ages ---------------------------------------------------------------------------------------------------------------

function age(seconds) {
  const ahead = seconds < 0, length = Math.abs(seconds);
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([size]) => length >= size * (size > 1 ? 2 : 1)) ?? [1, "s"];
  const text = `${Math.floor(length / size)} ${unit}`;
  return ahead ? `in ${text}` : `${text} ago`;
}

function tellAges() {
  for (const time of document.querySelectorAll("time")) {
    time.title ||= time.textContent;
    if (!time.closest(".exact")) time.textContent = age((Date.now() - Date.parse(time.dateTime)) / 1000);
  }
}

// -- what changes -------------------------------------------------------------------------------------------------------

function show(html) {
  const open = new Map([...live.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
  const fields = new Map([...live.querySelectorAll("input[id], textarea[id]")].map((one) => [one.id, one.value]));
  const scrolled = new Map([...live.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft]));
  const ticked = new Set([...live.querySelectorAll("td.tick input:checked")].map((one) => one.value));
  const known = new Set([...live.querySelectorAll("td.id a")].map((one) => one.href));
  const focused = live.contains(document.activeElement) ? document.activeElement : null;
  const box = focused?.matches("td.tick input") ? focused.value : null;
  const place = focused && [focused.id, focused.getAttribute("href"), focused.selectionStart, focused.selectionEnd];
  const before = live.querySelector("[data-said]")?.dataset.said;
  const here = live.querySelector("tr.here a")?.getAttribute("href");
  live.innerHTML = html;
  for (const [id, value] of open) { const one = document.getElementById(id); if (one) one.open = value; }
  for (const [id, value] of fields) { const one = document.getElementById(id); if (one) one.value = value; }
  for (const [id, value] of scrolled) { const one = document.getElementById(id); if (one) one.scrollLeft = value; }
  for (const link of live.querySelectorAll("td.id a")) {
    if (known.size && !known.has(link.href)) link.closest("tr").classList.add("new");
    if (link.getAttribute("href") === here) link.closest("tr").classList.add("here");
  }
  for (const one of live.querySelectorAll("td.tick input")) one.checked = ticked.has(one.value);
  if (place) {
    const [id, href, start, end] = place;
    const same = (box !== null && [...live.querySelectorAll("td.tick input")].find((one) => one.value === box)) || (id && document.getElementById(id)) || [...live.querySelectorAll("a")].find((one) => href && one.getAttribute("href") === href);
    same?.focus({ preventScroll: true });
    if (start !== undefined && start !== null && same?.setSelectionRange) same.setSelectionRange(start, end);
  }
  const now = live.querySelector("[data-said]")?.dataset.said;
  if (now && now !== before) said.textContent = now;
  ready();
}

function tell(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
}

let source = null, opened = 0, failures = 0, timer = null, tag = live?.dataset.tag;

function listen() {
  stop();
  failures = 0;
  source = new EventSource(`${live.dataset.live}&seen=${tag}`);
  source.onmessage = (event) => { failures = 0; tag = event.lastEventId; tell(""); show(event.data); };
  source.onopen = () => { opened = Date.now(); tell(""); };
  source.addEventListener("trouble", (event) => tell(event.data));
  source.addEventListener("gone", (event) => { tell(event.data); stop(); });
  source.onerror = () => {
    failures = opened && Date.now() - opened > 30000 ? 1 : failures + 1; // one that lived long ended as it should
    opened = 0;
    if (failures >= 2 || source.readyState === EventSource.CLOSED) poll(); // something on the way cuts streams
  };
}

async function poll() {
  stop();
  const began = Date.now();
  try {
    const answer = await fetch(live.dataset.live, { headers: { Accept: "text/html" }, cache: "no-cache" });
    const text = await answer.text();
    if (answer.ok) {
      tell("");
      const fresh = answer.headers.get("etag")?.replaceAll('"', "").replace("W/", "");
      if (fresh !== tag) { tag = fresh; show(text); }
    } else tell(answer.status === 404 ? "This is not there any more." : "The server cannot tell what is new; it is asked again.");
  } catch { tell("The server does not answer; it is asked again."); }
  failures = (failures + 1) % 15;
  timer = setTimeout(failures ? poll : listen, Math.max(4000, 50 * (Date.now() - began))); // what takes long is asked for rarely
}

function stop() {
  source?.close();
  source = null;
  clearTimeout(timer);
}

// -- ticking, keys, copying --------------------------------------------------------------------------------------------------------

function tellTicked() {
  const all = document.querySelector("th.tick input"), boxes = [...document.querySelectorAll("td.tick input")];
  if (!all) return;
  const number = boxes.filter((one) => one.checked).length;
  all.checked = number > 0 && number === boxes.length;
  all.indeterminate = number > 0 && !all.checked;
  document.querySelector(".ticked span").textContent = number ? `With the ${number} ticked:` : "Nothing is ticked:";
  for (const button of document.querySelectorAll(".ticked button")) button.disabled = !number;
}

function tickAll(place) {
  const all = document.createElement("input");
  all.type = "checkbox";
  all.setAttribute("aria-label", "All of this page");
  all.onchange = () => { for (const one of document.querySelectorAll("td.tick input")) one.checked = all.checked; tellTicked(); };
  place.replaceChildren(all);
  tellTicked();
}

function tellMore() {
  for (const one of document.querySelectorAll(".scroll")) one.classList.toggle("more", one.scrollLeft + one.clientWidth < one.scrollWidth - 1);
}

function ready() {
  tellAges();
  tellMore();
  for (const one of document.querySelectorAll(".scroll")) one.onscroll = tellMore;
  for (const place of document.querySelectorAll("th.tick")) tickAll(place);
  for (const code of document.querySelectorAll(".line code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-describedby", code.id);
    button.onclick = async () => {
      try { await navigator.clipboard.writeText(code.textContent); said.textContent = button.textContent = "Copied"; }
      catch { getSelection().selectAllChildren(code); }
    };
    code.after(button);
  }
}

function step(by) {
  const rows = [...document.querySelectorAll("table.rows tbody tr:has(td.id a)")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("here"));
  const next = rows[Math.min(Math.max(at + by, 0), rows.length - 1)];
  rows[at]?.classList.remove("here");
  next.classList.add("here");
  next.querySelector("td.id a").focus();
}

document.addEventListener("change", (event) => { if (event.target.matches("td.tick input")) tellTicked(); });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), textarea, dialog")) return;
  const act = {
    "/": () => document.getElementById("q")?.focus(),
    j: () => step(1),
    k: () => step(-1),
    x: () => document.querySelector("tr.here td.tick input")?.click(),
    g: () => { location.href = document.querySelector(".brand").href; },
    "?": () => document.getElementById("keys").showModal(),
  }[event.key];
  if (act) { event.preventDefault(); act(); }
});

ready();
addEventListener("resize", tellMore);
setInterval(tellAges, 5000);
if (live) {
  listen();
  // A browser has few connections to a server: pages that nobody looks at leave theirs to others.
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : listen()));
}
