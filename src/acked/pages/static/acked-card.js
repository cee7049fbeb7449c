// One task as it is drawn and announced, in the shadow root of a widget. Nothing here comes from the
// server as HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "circle", "path"]);
// Milliseconds between two announcements of the same phase.
const SAID_AGAIN = 5_000;
// Only while the server has said nothing yet: it knows the visitor's language.
const OFFLINE = "There is no connection. This page connects by itself.";

export class Card {
  #parts;
  #act;
  #silent;
  #state = null;
  #clockOff = 0; // what to add to this clock to have the server's, milliseconds
  #ticking = 0;
  #quarter = 0;
  #said = -Infinity; // when, by the clock of the page
  #saying = 0;

  // `act(what, token)` asks the server, and answers whether it was done; `token` is that of the state.
  // `level` makes the label a heading, `small` is for one of several, which announces nothing.
  constructor({ act, level = null, small = false }) {
    this.#parts = build(level, small);
    this.#act = act;
    this.#silent = small;
    for (const what of ["cancel", "retry"]) this.#parts[what].onclick = () => this.#press(what);
  }

  get element() {
    return this.#parts.card;
  }

  get state() {
    return this.#state;
  }

  // Begins anew: what is shown next is of another task.
  forget() {
    this.#state = null;
  }

  stop() {
    this.pause();
    clearTimeout(this.#saying);
  }

  // How long something takes is not said until the next state.
  pause() {
    clearInterval(this.#ticking);
    write(this.#parts.countdown, "");
  }

  // Whether it is another state than before.
  show(state, now) {
    const before = this.#state?.view;
    const same = before && JSON.stringify(this.#state) === JSON.stringify(state);
    this.#state = state;
    this.#clockOff = now * 1000 - Date.now();
    if (same) {
      this.#ready();
    } else {
      this.#draw(state, before);
      this.#announce(state.view, before);
    }
    return !same;
  }

  // What is shown may be old.
  offline() {
    write(this.#parts.offline, this.#state?.offline ?? OFFLINE);
    this.pause();
  }

  #draw(state, before) {
    const { view } = state;
    const parts = this.#parts;
    const percent = view.fraction === null ? null : Math.floor(view.fraction * 100);
    // What is around it stays where it is when the last lines go.
    const height = before && state.settled && !this.#silent ? `${parts.card.offsetHeight}px` : "";
    parts.card.style.minHeight = height;
    // Without a state before there is nothing to move from: what was done is shown as done.
    parts.card.toggleAttribute("data-moves", Boolean(before));
    parts.card.dataset.phase = view.phase;
    parts.card.toggleAttribute("data-measured", percent !== null);
    if (percent === null) parts.arc.removeAttribute("stroke-dasharray");
    else parts.arc.setAttribute("stroke-dasharray", `${percent} 100`);
    if (view.phase === "done" && before && before.fraction === null) this.#land();

    const measures = !state.settled || view.phase === "done";
    parts.ring.setAttribute("role", measures ? "progressbar" : "img");
    parts.ring.setAttribute("aria-label", measures ? state.label : view.headline);
    for (const [name, value] of [["min", 0], ["max", 100], ["now", percent], ["text", view.amount || null]]) {
      if (measures && value !== null) parts.ring.setAttribute(`aria-value${name}`, value);
      else parts.ring.removeAttribute(`aria-value${name}`);
    }
    parts.percent.textContent = percent === null || state.settled ? "" : `${percent}%`;
    write(parts.label, state.label);
    write(parts.headline, view.headline);
    write(parts.detail, view.detail);
    write(parts.amount, view.amount);
    write(parts.attempt, view.attempt);
    write(parts.result, view.result);
    write(parts.open, state.open);
    if (view.link) parts.open.href = view.link;
    else parts.open.removeAttribute("href");
    for (const name of ["cancel", "retry"]) write(parts[name], state[name]);
    write(parts.trouble, "");
    this.#ready();
  }

  #ready() {
    for (const name of ["cancel", "retry"]) this.#parts[name].disabled = false;
    write(this.#parts.offline, "");
    this.#count();
  }

  // The turning arc keeps turning until it has closed to a full circle, which looks the same
  // however far it is turned.
  #land() {
    const { card } = this.#parts;
    card.setAttribute("data-landing", "");
    setTimeout(() => card.removeAttribute("data-landing"), 700);
  }

  #count() {
    clearInterval(this.#ticking);
    if (this.#state.view.countdown) this.#ticking = setInterval(() => this.#tick(), 1_000);
    this.#tick();
  }

  #tick() {
    const countdown = this.#state.view.countdown;
    const left = countdown ? countdown.at - (Date.now() + this.#clockOff) / 1000 : 0;
    write(this.#parts.countdown, left > 0 ? countdown.text.replace("{time}", inWords(left)) : "");
    if (left <= 0) clearInterval(this.#ticking);
  }

  // A screen reader hears each new phase at once; a new step, or another quarter of the way, at most
  // every few seconds, and the latest then.
  #announce(view, before) {
    const quarter = Math.floor((view.fraction ?? 0) * 4);
    const isFurther = quarter > this.#quarter;
    this.#quarter = quarter;
    if (!before || this.#silent) return;
    const isStep = view.headline !== before.headline || view.detail !== before.detail;
    if (view.phase !== before.phase) this.#say([view.headline, view.detail]);
    else if (isStep || isFurther) this.#later();
  }

  #later() {
    clearTimeout(this.#saying);
    this.#saying = setTimeout(() => {
      const { headline, detail, amount } = this.#state.view;
      this.#say([detail || headline, amount]);
    }, this.#said + SAID_AGAIN - performance.now());
  }

  #say(parts) {
    clearTimeout(this.#saying);
    this.#said = performance.now();
    const text = parts.filter(Boolean).join(". ").replaceAll(".. ", ". ");
    const failed = this.#state.view.phase === "failed";
    this.#parts.alert.textContent = failed ? text : "";
    this.#parts.status.textContent = failed ? "" : text;
  }

  async #press(what) {
    const button = this.#parts[what];
    const { not_done: trouble, token } = this.#state;
    button.disabled = true;
    write(this.#parts.trouble, "");
    this.#parts.status.textContent = ""; // the same words are said again only after others
    try {
      if (await this.#act(what, token)) return;
      write(this.#parts.trouble, trouble);
      this.#parts.status.textContent = trouble;
    } catch {
      this.offline();
    }
    button.disabled = false;
  }
}

function write(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

// As seconds_in_words on the server.
function inWords(seconds) {
  const whole = Math.max(1, Math.ceil(seconds));
  for (const [size, unit] of [[86_400, "d"], [3_600, "h"], [60, "min"]]) {
    if (whole >= 2 * size || (whole >= size && size === 60)) return `${Math.ceil(whole / size)}\u00a0${unit}`;
  }
  return `${whole}\u00a0s`;
}

// The same elements, with the same classes, as in templates/_card.html.
function build(level, small) {
  const make = (tag, attributes, ...children) => {
    const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const text = (name, attributes = {}) => make("p", { class: name, dir: "auto", hidden: "", ...attributes });
  const circle = (name) => make("circle", { class: name, cx: 32, cy: 32, r: 28, pathLength: 100 });
  const sign = (name, d) => make("path", { class: `sign ${name}`, d, pathLength: 1 });
  const arc = circle("arc");
  const parts = {
    arc,
    percent: make("span", { class: "percent", "aria-hidden": "true" }),
    label: text("label", level ? { role: "heading", "aria-level": level } : {}),
    headline: text("headline"),
    detail: text("detail"),
    amount: make("span", { hidden: "" }),
    countdown: make("span", { hidden: "" }),
    attempt: make("span", { hidden: "" }),
    result: text("result"),
    open: make("a", { class: "button first", hidden: "" }),
    retry: make("button", { class: "button first", type: "button", hidden: "" }),
    cancel: make("button", { class: "button", type: "button", hidden: "" }),
    trouble: text("offline trouble"),
    offline: text("offline", { role: "status" }),
    status: make("p", { class: "unseen", role: "status" }),
    alert: make("p", { class: "unseen", role: "alert" }),
  };
  parts.ring = make("div", { class: "ring" },
    make("svg", { viewBox: "0 0 64 64", "aria-hidden": "true" },
      circle("track"), circle("disc"), make("g", { class: "turn" }, arc),
      sign("check", "M20 33 L28.5 41.5 L45 24.5"), sign("cross", "M23.5 23.5 L40.5 40.5 M40.5 23.5 L23.5 40.5"),
      sign("clock", "M32 19 V32.5 L40.5 38"), sign("dash", "M21 32 H43"),
      sign("again", "M42.5 36.5 A11.5 11.5 0 1 1 40.5 24.2 M41.5 16.5 V24.8 H33.2"),
      sign("question", "M26.5 27 A5.8 5.8 0 1 1 34 32.6 Q32 33.6 32 36.5 M32 42.4 V42.6")),
    parts.percent);
  parts.card = make("div", { class: small ? "acked small" : "acked", "data-phase": "waiting" }, parts.ring,
    make("div", { class: "words" }, parts.label, parts.headline, parts.detail,
      make("p", { class: "facts" }, parts.amount, parts.countdown, parts.attempt),
      parts.result, make("div", { class: "actions" }, parts.open, parts.retry, parts.cancel), parts.trouble, parts.offline),
    parts.status, parts.alert);
  return parts;
}
