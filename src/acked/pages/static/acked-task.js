// <acked-task token="…">: what becomes of one task, for whoever waits for it.
//
// Attributes: `token` from TaskPages.token_for; `src`, where the pages are mounted (left out: where
// this script came from); `page`, the title of the whole page, with {label} and {headline}; `told`,
// the state to begin with, as the server tells it.
// Events, which bubble: `acked:change` with each new state, `acked:done` once when the task has
// ended. `event.detail` is the state: phase, headline, detail, fraction, link, …
//
// All widgets of a page share one connection (class Feed): a stream, or, where streams do not
// work or nobody looks, questions from time to time. Nothing here comes from the server as HTML.

const HERE = new URL(".", import.meta.url).href;
const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "circle", "path"]);
const LOOK = 2_000, LOOK_HIDDEN = 15_000, SILENT = 25_000, FIRST_WORD = 6_000, STREAM_AGAIN = 60_000;
const ANSWER = 10_000;
// Only while the server has said nothing yet: it knows the visitor's language.
const OFFLINE = "There is no connection. This page connects by itself.";
const ENDED = new Set(["done", "failed", "cancelled", "expired"]);

// -- one connection for all widgets of a page ------------------------------------------------------

class Feed {
  static #feeds = new Map();

  static of(base) {
    if (!Feed.#feeds.has(base)) Feed.#feeds.set(base, new Feed(base));
    return Feed.#feeds.get(base);
  }

  #base;
  #widgets = new Set();
  #running = new AbortController();
  #scheduled = 0;
  #streamAgain = 0;

  constructor(base) {
    this.#base = base;
    document.addEventListener("visibilitychange", () => this.restart());
    addEventListener("online", () => this.restart());
    addEventListener("pageshow", (event) => event.persisted && this.restart());
  }

  add(widget) {
    this.#widgets.add(widget);
    this.restart();
  }

  remove(widget) {
    this.#widgets.delete(widget);
    this.restart();
  }

  // Soon, and once for all that is added or removed at the same moment.
  restart() {
    clearTimeout(this.#scheduled);
    this.#scheduled = setTimeout(() => {
      this.#running.abort();
      this.#running = new AbortController();
      this.#run(this.#running.signal);
    }, 20);
  }

  async #run(signal) {
    let failures = 0;
    for (;;) {
      const widgets = [...this.#widgets].filter((widget) => !widget.settled);
      if (signal.aborted || !widgets.length) return;
      const tokens = [...new Set(widgets.map((widget) => widget.token))];
      const tell = ({ index, now, state }) => {
        failures = 0;
        for (const widget of this.#widgets) {
          if (widget.token === tokens[index]) widget.show(state, now);
        }
      };
      const streams = !document.hidden && Date.now() >= this.#streamAgain;
      let pause = document.hidden ? LOOK_HIDDEN : LOOK;
      try {
        if (streams) {
          await this.#stream(tokens, tell, signal);
          pause = 500;
        } else {
          const patience = AbortSignal.any([signal, AbortSignal.timeout(ANSWER)]);
          for (const told of await (await this.#ask("states", tokens, patience)).json()) tell(told);
        }
      } catch {
        if (signal.aborted) return;
        failures += 1;
        if (streams) this.#streamAgain = Date.now() + STREAM_AGAIN;
        if (failures > 1) {
          pause = Math.min(30_000, pause * 2 ** (failures - 2));
          for (const widget of widgets) widget.offline();
        } else {
          pause = 0;
        }
      }
      await sleep(pause * (0.75 + Math.random() / 2), signal);
    }
  }

  async #ask(what, tokens, signal) {
    const response = await fetch(this.#base + what, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ tokens }),
      signal,
    });
    if (!response.ok) throw new Error(`${what}: ${response.status}`);
    return response;
  }

  // Ends with the stream; fails when it breaks, or is silent although the server never is. A proxy
  // that keeps events back is noticed by the silence before the first.
  async #stream(tokens, tell, signal) {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), FIRST_WORD);
    try {
      const response = await this.#ask("events", tokens, AbortSignal.any([signal, silence.signal]));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ; ) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENT);
        const events = (text + value).split("\n\n");
        text = events.pop();
        for (const event of events) {
          const data = event.split("\n").find((line) => line.startsWith("data: "));
          if (data) tell(JSON.parse(data.slice(6)));
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
  });
}

// -- one widget ------------------------------------------------------------------------------------

class AckedTask extends HTMLElement {
  static observedAttributes = ["token"];

  settled = false;
  #parts = null;
  #state = null;
  #clockOff = 0; // what to add to this clock to have the server's, milliseconds
  #ticking = 0;
  #quarter = 0;

  get token() {
    return this.getAttribute("token") ?? "";
  }

  get #base() {
    const src = this.getAttribute("src");
    return src === null ? HERE : new URL(src.replace(/\/*$/, "/"), document.baseURI).href;
  }

  connectedCallback() {
    this.#parts ??= build(this.attachShadow({ mode: "open" }), this.hasAttribute("page"));
    this.#parts.cancel.onclick = () => this.#act("cancel");
    this.#parts.retry.onclick = () => this.#act("retry");
    const told = this.#state === null && JSON.parse(this.getAttribute("told"));
    if (told) this.show(told.state, told.now);
    if (this.token) Feed.of(this.#base).add(this);
  }

  disconnectedCallback() {
    clearInterval(this.#ticking);
    Feed.of(this.#base).remove(this);
  }

  attributeChangedCallback(name, before) {
    if (before === null || !this.isConnected) return;
    this.settled = false;
    this.#state = null;
    Feed.of(this.#base).add(this);
  }

  show(state, now) {
    const { view } = state;
    const before = this.#state?.view;
    if (before && JSON.stringify(this.#state) === JSON.stringify(state)) {
      write(this.#parts.offline, "");
      return;
    }
    this.#state = state;
    this.settled = state.settled;
    this.#clockOff = now * 1000 - Date.now();
    this.#draw(state, before);
    this.#announce(state, before);
    this.dispatchEvent(new CustomEvent("acked:change", { detail: view, bubbles: true, composed: true }));
    if (ENDED.has(view.phase) && before?.phase !== view.phase) {
      this.dispatchEvent(new CustomEvent("acked:done", { detail: view, bubbles: true, composed: true }));
    }
  }

  offline() {
    write(this.#parts.offline, this.#state?.offline ?? OFFLINE);
  }

  #draw(state, before) {
    const { view } = state;
    const parts = this.#parts;
    const percent = view.fraction === null ? null : Math.floor(view.fraction * 100);
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
    for (const name of ["cancel", "retry"]) {
      write(parts[name], state[name]);
      parts[name].disabled = false;
    }
    write(parts.offline, "");
    if (this.hasAttribute("page")) {
      const words = { label: state.label, headline: view.headline };
      document.title = this.getAttribute("page").replace(/\{(label|headline)\}/g, (_, name) => words[name]);
    }
    clearInterval(this.#ticking);
    if (view.countdown) this.#ticking = setInterval(() => this.#tick(), 1_000);
    this.#tick();
  }

  // The turning arc keeps turning until it has closed to a full circle, which looks the same
  // however far it is turned.
  #land() {
    const { card } = this.#parts;
    card.setAttribute("data-landing", "");
    setTimeout(() => card.removeAttribute("data-landing"), 700);
  }

  #tick() {
    const countdown = this.#state.view.countdown;
    const left = countdown ? countdown.at - (Date.now() + this.#clockOff) / 1000 : 0;
    write(this.#parts.countdown, left > 0 ? countdown.text.replace("{time}", inWords(left)) : "");
    if (left <= 0) clearInterval(this.#ticking);
  }

  // A screen reader hears each new phase and each quarter, not every step.
  #announce({ view }, before) {
    const quarter = Math.floor((view.fraction ?? 0) * 4);
    const news = before && (view.phase !== before.phase || quarter > this.#quarter);
    this.#quarter = quarter;
    if (!news) return;
    const said = [view.headline, view.phase === before.phase ? view.amount : view.detail];
    const text = said.filter(Boolean).join(". ");
    this.#parts.alert.textContent = view.phase === "failed" ? text : "";
    this.#parts.status.textContent = view.phase === "failed" ? "" : text;
  }

  async #act(what) {
    const button = this.#parts[what];
    button.disabled = true;
    try {
      await fetch(`${this.#base}task/${this.token}/${what}`, { method: "POST" });
    } catch {
      this.offline();
      button.disabled = false;
    }
    this.settled = false;
    Feed.of(this.#base).restart();
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

// The same elements, with the same classes, as in templates/task.html.
function build(root, isPage) {
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
    label: text("label", isPage ? { role: "heading", "aria-level": "1" } : {}),
    headline: text("headline"),
    detail: text("detail"),
    amount: make("span", { hidden: "" }),
    countdown: make("span", { hidden: "" }),
    attempt: make("span", { hidden: "" }),
    result: text("result"),
    open: make("a", { class: "button first", hidden: "" }),
    retry: make("button", { class: "button first", type: "button", hidden: "" }),
    cancel: make("button", { class: "button", type: "button", hidden: "" }),
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
  parts.card = make("div", { class: "acked", "data-phase": "waiting" }, parts.ring,
    make("div", { class: "words" }, parts.label, parts.headline, parts.detail,
      make("p", { class: "facts" }, parts.amount, parts.countdown, parts.attempt),
      parts.result, make("div", { class: "actions" }, parts.open, parts.retry, parts.cancel), parts.offline),
    parts.status, parts.alert);
  const style = make("link", { rel: "stylesheet", href: new URL("acked-task.css", HERE) });
  // Nothing is seen before it looks as it should.
  parts.card.hidden = true;
  style.onload = style.onerror = () => { parts.card.hidden = false; };
  root.append(style, parts.card);
  return parts;
}

customElements.define("acked-task", AckedTask);
