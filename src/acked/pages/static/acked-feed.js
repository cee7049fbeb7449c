// One connection for all widgets of a page: a stream, or, where streams do not work or nobody looks,
// questions from time to time.

const LOOK = 2_000, LOOK_HIDDEN = 15_000, SILENT = 25_000, FIRST_WORD = 6_000, STREAM_AGAIN = 60_000;
const ANSWER = 10_000;

export class Feed {
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
      const tell = ({ index, now, state, place }) => {
        failures = 0;
        for (const widget of this.#widgets) {
          if (widget.token === tokens[index]) widget.show(state, now, place);
        }
      };
      const away = () => widgets.forEach((widget) => widget.offline());
      const streams = !document.hidden && Date.now() >= this.#streamAgain;
      let pause = document.hidden ? LOOK_HIDDEN : LOOK;
      try {
        if (streams) {
          await this.#stream(tokens, tell, away, signal);
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
          away();
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
  async #stream(tokens, tell, away, signal) {
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
          if (event.startsWith("event: away")) away();
          else if (data) tell(JSON.parse(data.slice(6)));
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
