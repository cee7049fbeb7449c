// What the pages do beyond links and forms: look again every few seconds, show times as the reader's
// clock has them, and answer to keys. Without it everything still works.

const main = document.querySelector("main");
const every = Number(main.dataset.refresh || 0) * 1000;
const PAUSED = "acked-dashboard-paused";
const LONGEST = 30_000; // between two tries while the server does not answer

// -- times --------------------------------------------------------------------------------------------

const two = (value) => String(value).padStart(2, "0");

function localTimes() {
  for (const time of document.querySelectorAll("time.full")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.textContent =
      `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ` +
      `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  }
  for (const text of document.querySelectorAll("[data-clock]")) {
    const at = new Date(text.dataset.clock);
    text.textContent = `${two(at.getHours())}:${two(at.getMinutes())}`;
  }
}

// -- looking again ------------------------------------------------------------------------------------

// Change `old` into `fresh` with as little as possible, so that focus, selection, checked boxes and
// what was unfolded stay. Elements with an id are recognised by it.
function morph(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  let here = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    let match = here;
    if (child.id) {
      match = [...old.children].find((each) => each.id === child.id) ?? null;
    } else if (here && here.id) {
      match = null;
    }
    if (match && match.nodeName === child.nodeName) {
      if (match === here) here = here.nextSibling;
      else old.insertBefore(match, here);
      if (match.nodeType === Node.ELEMENT_NODE) morph(match, child);
      else if (match.data !== child.data) match.data = child.data;
    } else {
      old.insertBefore(document.adoptNode(child), here);
    }
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

const live = document.querySelector("#live");
const offline = document.querySelector("#offline");
let timer = 0;
let wait = every;
let looking = false;

const paused = () => sessionStorage.getItem(PAUSED) === "yes";

async function look() {
  looking = true;
  try {
    const answer = await fetch(location.href, {
      headers: { "x-acked-refresh": "1" },
      signal: AbortSignal.timeout(15_000),
    });
    // To the login, or to the page that says that it is gone, or not for this visitor any more.
    if (answer.redirected || (answer.status >= 400 && answer.status < 500)) return location.reload();
    if (answer.status >= 500) throw new Error("away");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const selecting = getSelection()?.type === "Range";
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh && !selecting) morph(part, fresh);
    }
    localTimes();
    offline.hidden = true;
    wait = every;
  } catch {
    offline.hidden = false;
    wait = Math.min(LONGEST, wait * 2);
  } finally {
    looking = false;
    plan();
  }
}

function plan() {
  clearTimeout(timer);
  if (every && !paused() && !document.hidden && !looking) timer = setTimeout(look, wait);
}

function showPause() {
  live.setAttribute("aria-pressed", String(paused()));
  live.querySelector(".says").textContent = paused() ? "Paused" : "Live";
  live.title = paused() ? "Resume live updates (p)" : "Pause live updates (p)";
}

function togglePause() {
  sessionStorage.setItem(PAUSED, paused() ? "no" : "yes");
  showPause();
  plan();
}

if (every) {
  live.hidden = false;
  live.addEventListener("click", togglePause);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused() && !looking) look();
  });
  showPause();
  plan();
}

// -- keys ---------------------------------------------------------------------------------------------

const base = document.body.dataset.base;
const keys = document.querySelector("#keys");
const help = document.querySelector("#help");
let going = false;

function step(by) {
  const rows = [...document.querySelectorAll("main .rows tbody tr")].filter((row) =>
    row.querySelector("a"),
  );
  const now = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.max(0, Math.min(rows.length - 1, now < 0 ? 0 : now + by))];
  next?.querySelector("a").focus();
}

function search() {
  const field = document.querySelector("[data-first]");
  if (field) field.focus();
  else location.href = `${base}/tasks#search`;
}

const ANSWERS = {
  "/": search,
  "?": () => keys.showModal(),
  j: () => step(1),
  k: () => step(-1),
  x: () => document.activeElement.closest("tr")?.querySelector("input[type=checkbox]")?.click(),
  n: () => document.querySelector("a[rel=next]")?.click(),
  p: () => every && togglePause(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (going) {
    going = false;
    const to = document.querySelector(`nav [data-key="${CSS.escape(event.key)}"]`);
    if (to) location.href = to.href;
    return;
  }
  going = event.key === "g";
  const answer = Object.hasOwn(ANSWERS, event.key) ? ANSWERS[event.key] : null;
  if (answer) {
    event.preventDefault();
    answer();
  }
});
help.hidden = false;
help.addEventListener("click", () => keys.showModal());
if (location.hash === "#search") search();

// -- this page ----------------------------------------------------------------------------------------

localTimes();
document.querySelector(".bar [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
for (const text of document.querySelectorAll(".local")) text.hidden = false;
const here = new URL(location.href);
if (here.searchParams.has("entry")) {
  here.searchParams.delete("entry"); // said once
  history.replaceState(null, "", here);
}
