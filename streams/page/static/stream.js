// Server-sent events over fetch, which can carry the token in a header; EventSource can't.

const SILENCE_MS = 25_000; // The server says something every ten seconds.
const FIRST_MS = 1_000;
const MOST_MS = 15_000;
const HIDDEN_MS = 60_000; // A page that nobody sees looks no longer.

let token = ""; // Here and nowhere else: no storage, no cookie, no URL.

export function setToken(value) {
  token = value;
}

/** Return the headers of a request to this worker. */
export function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/**
 * Look at *url* for ever. *heard*: onPicture(picture), onState("connecting" | "live" | "waiting" | "paused", text),
 * onDenied(status, error), after which `again` looks anew.
 */
export class Stream {
  #url;
  #heard;
  #abort = null;
  #timer = 0;
  #silence = 0;
  #failures = 0;
  #denied = false;
  #hiding = 0;

  constructor(url, heard) {
    this.#url = url;
    this.#heard = heard;
    document.addEventListener("visibilitychange", () => this.#visibility());
    window.addEventListener("online", () => !this.#abort && this.again());
  }

  again() {
    this.#stop();
    this.#denied = false;
    this.#look();
  }

  #stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    const abort = this.#abort;
    this.#abort = null;
    abort?.abort();
  }

  #visibility() {
    clearTimeout(this.#hiding);
    if (document.hidden) {
      this.#hiding = setTimeout(() => {
        this.#stop();
        this.#heard.onState("paused", "Paused");
      }, HIDDEN_MS);
    } else if (!this.#abort && !this.#denied) {
      this.again();
    }
  }

  async #look() {
    const abort = (this.#abort = new AbortController());
    this.#heard.onState("connecting", this.#failures ? "Connecting again" : "Connecting");
    this.#listen();
    let ended = "";
    try {
      const answer = await fetch(this.#url, {
        headers: { Accept: "text/event-stream", ...headers() },
        cache: "no-store",
        signal: abort.signal,
      });
      if (answer.status === 401 || answer.status === 403 || answer.status === 404) {
        this.#stop();
        this.#denied = true;
        this.#heard.onDenied(answer.status, (await answer.json().catch(() => ({}))).error ?? answer.statusText);
        return;
      }
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `HTTP ${answer.status}`);
      await this.#read(answer.body);
    } catch (error) {
      ended = error.name === "AbortError" || error instanceof TypeError ? "" : error.message;
      this.#failures += 1;
    }
    if (this.#abort === abort) this.#wait(ended);
  }

  #listen() {
    clearTimeout(this.#silence);
    const abort = this.#abort;
    this.#silence = setTimeout(() => abort?.abort(), SILENCE_MS);
  }

  async #read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.#listen();
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) this.#take(event);
    }
  }

  #take(event) {
    const data = event
      .split("\n")
      .filter((line) => line.startsWith("data:"))
      .map((line) => line.slice(5).trimStart())
      .join("\n");
    if (!data) return;
    this.#failures = 0;
    this.#heard.onState("live", "Live");
    this.#heard.onPicture(JSON.parse(data));
  }

  #wait(because) {
    this.#stop();
    // A stream ends after some minutes, with the worker's thanks: then at once.
    const most = Math.min(MOST_MS, FIRST_MS * 2 ** Math.max(0, this.#failures - 1));
    const pause = this.#failures ? most * (0.5 + Math.random() / 2) : 0;
    if (pause) this.#heard.onState("waiting", because || "No answer: trying again");
    this.#timer = setTimeout(() => this.#look(), pause);
  }
}
