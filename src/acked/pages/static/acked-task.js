// <acked-task token="…">: what becomes of one task, for whoever waits for it.
// <acked-tasks token="…">: of several, and of all together.
//
// Attributes: `token` from TaskPages.token_for, or token_for_many; `src`, where the pages are mounted
// (left out: where this script came from); `page`, the title of the whole page, with {label} and
// {headline}; `told`, the state to begin with, as the server tells it.
// Events, which bubble: `acked:change` with each new state, `acked:done` once when the task has
// ended, or all of them. `event.detail` is the state: phase, headline, detail, fraction, link, …

import { Card } from "./acked-card.js";
import { Feed } from "./acked-feed.js";

const HERE = new URL(".", import.meta.url).href;
const ENDED = new Set(["done", "failed", "cancelled", "expired"]);

class AckedTask extends HTMLElement {
  static observedAttributes = ["token"];

  settled = false;
  card = null;

  get token() {
    return this.getAttribute("token") ?? "";
  }

  get #base() {
    const src = this.getAttribute("src");
    return src === null ? HERE : new URL(src.replace(/\/*$/, "/"), document.baseURI).href;
  }

  connectedCallback() {
    if (this.card === null) this.#build();
    const told = this.card.state === null && JSON.parse(this.getAttribute("told"));
    for (const { state, now, place } of told ? [told].flat() : []) this.show(state, now, place);
    if (this.token) Feed.of(this.#base).add(this);
  }

  disconnectedCallback() {
    this.card.stop();
    Feed.of(this.#base).remove(this);
  }

  attributeChangedCallback(name, before) {
    if (before === null || !this.isConnected) return;
    this.settled = false;
    this.forget();
    Feed.of(this.#base).add(this);
  }

  forget() {
    this.card.forget();
  }

  show(state, now) {
    const { view } = state;
    const before = this.card.state?.view;
    this.settled = state.settled;
    if (!this.card.show(state, now)) return;
    if (this.hasAttribute("page")) {
      const words = { label: state.label, headline: view.headline };
      document.title = this.getAttribute("page").replace(/\{(label|headline)\}/g, (_, name) => words[name]);
    }
    this.#tell("acked:change", view);
    if (ENDED.has(view.phase) && before?.phase !== view.phase) this.#tell("acked:done", view);
  }

  offline() {
    this.card.offline();
  }

  // What is seen of it, in its shadow root.
  draw() {
    return this.card.element;
  }

  // Whether the server did it. It answers by leading back to the page, which is not needed here.
  async act(what, token) {
    const address = `${this.#base}task/${token ?? this.token}/${what}`;
    try {
      const response = await fetch(address, { method: "POST", redirect: "manual" });
      return response.ok || response.type === "opaqueredirect";
    } finally {
      this.settled = false;
      Feed.of(this.#base).restart();
    }
  }

  #build() {
    const act = (what, token) => this.act(what, token);
    this.card = new Card({ act, level: this.hasAttribute("page") ? 1 : null });
    const seen = this.draw();
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("acked-task.css", HERE).href;
    // Nothing is seen before it looks as it should.
    seen.hidden = true;
    style.onload = style.onerror = () => { seen.hidden = false; };
    this.attachShadow({ mode: "open" }).append(style, seen);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }
}

class AckedTasks extends AckedTask {
  #cards = [];
  #list = document.createElement("ul");

  draw() {
    const seen = document.createElement("div");
    seen.className = "several";
    seen.append(this.card.element, this.#list);
    return seen;
  }

  // Without a place it is of all together.
  show(state, now, place) {
    if (place === undefined) {
      if (state.view.phase === "refused") this.#clear();
      super.show(state, now);
      return;
    }
    while (this.#cards.length <= place) this.#add();
    this.#cards[place].show(state, now);
  }

  offline() {
    super.offline();
    for (const card of this.#cards) card.pause();
  }

  forget() {
    super.forget();
    this.#clear();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    for (const card of this.#cards) card.stop();
  }

  #add() {
    const act = (what, token) => this.act(what, token);
    const card = new Card({ act, level: this.hasAttribute("page") ? 2 : null, small: true });
    const item = document.createElement("li");
    item.append(card.element);
    this.#list.append(item);
    this.#cards.push(card);
  }

  #clear() {
    for (const card of this.#cards) card.stop();
    this.#cards = [];
    this.#list.replaceChildren();
  }
}

customElements.define("acked-task", AckedTask);
customElements.define("acked-tasks", AckedTasks);
