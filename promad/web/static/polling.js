/** Asking the daemon, and asking again. */

const PATIENCE_MILLISECONDS = 10_000;
const LONGEST_PAUSE_SECONDS = 30;

/** An answer that refuses; `status` is HTTP's. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** What the API answers below api/v1/; parameters that are null are left out. */
export async function ask(path, parameters = {}, signal = null) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null);
  const query = given.length ? `?${new URLSearchParams(given)}` : "";
  const patience = AbortSignal.timeout(PATIENCE_MILLISECONDS);
  const answer = await fetch(`api/v1/${path}${query}`, {
    signal: signal ? AbortSignal.any([signal, patience]) : patience,
  });
  if (!answer.ok) throw new Refusal(answer.status, await reason(answer));
  return answer.json();
}

async function reason(answer) {
  try {
    return (await answer.json()).detail ?? answer.statusText;
  } catch {
    return answer.statusText;
  }
}

/**
 * Do something now and again: never twice at once, not while the page is hidden, and ever more
 * seldom while it fails.
 */
export class Repeater {
  #timer = null;
  #busy = false;
  #again = false;
  #failures = 0;
  #stop = new AbortController();

  /** `task(signal)` rejects when it fails; `seconds()` is the pause between two runs. */
  constructor(task, seconds) {
    this.task = task;
    this.seconds = seconds;
    const { signal } = this.#stop;
    document.addEventListener("visibilitychange", () => this.#turned(), { signal });
  }

  /** Run at once, or straight after the run that is under way. */
  async now() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#stop.signal.aborted) return;
    this.#again = this.#busy;
    if (this.#busy) return;
    this.#busy = true;
    try {
      await this.task(this.#stop.signal);
      this.#failures = 0;
    } catch {
      this.#failures += 1;
    }
    this.#busy = false;
    if (this.#again) this.now();
    else this.#later();
  }

  /** Stop for good, and drop what is under way. */
  stop() {
    clearTimeout(this.#timer);
    this.#stop.abort();
  }

  #later() {
    if (document.hidden || this.#stop.signal.aborted) return;
    const pause = this.seconds();
    const longer = Math.min(pause * 2 ** this.#failures, Math.max(pause, LONGEST_PAUSE_SECONDS));
    this.#timer = setTimeout(() => this.now(), 1000 * longer);
  }

  #turned() {
    clearTimeout(this.#timer);
    if (!document.hidden) this.now();
  }
}
