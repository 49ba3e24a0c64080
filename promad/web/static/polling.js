/** Requests to the API, once and repeated. */

const TIMEOUT_MILLISECONDS = 10_000;
const MAX_PAUSE_SECONDS = 30;

/** A response of the API with an error status. */
export class ApiError extends Error {}

/** @typedef {?(string | number | boolean)} Parameter */

/**
 * A response below api/v1/; parameters that are null are omitted.
 *
 * @param {string} path
 * @param {Record<string, Parameter>} parameters
 * @param {?AbortSignal} signal
 * @returns {Promise<any>}
 */
export async function fetchApi(path, parameters = {}, signal = null) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null) query.set(name, String(value));
  }
  const timeout = AbortSignal.timeout(TIMEOUT_MILLISECONDS);
  const response = await fetch(`api/v1/${path}${query.size ? `?${query}` : ""}`, {
    signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
  });
  if (!response.ok) throw new ApiError(await readDetail(response));
  return response.json();
}

/** @param {Response} response */
async function readDetail(response) {
  try {
    return (await response.json()).detail ?? response.statusText;
  } catch {
    return response.statusText;
  }
}

/**
 * Repeats a task: never twice at once, not while the page is hidden, and less often while it
 * fails.
 */
export class Poller {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #isBusy = false;
  #again = false;
  #failures = 0;
  #stop = new AbortController();

  /**
   * @param {(signal: AbortSignal) => Promise<void>} task rejects when it fails
   * @param {() => number} getPause seconds between two runs
   */
  constructor(task, getPause) {
    this.task = task;
    this.getPause = getPause;
    const { signal } = this.#stop;
    document.addEventListener("visibilitychange", () => this.#handleVisibility(), { signal });
  }

  /** Run now, or directly after the current run. */
  async run() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#stop.signal.aborted) return;
    this.#again = this.#isBusy;
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      await this.task(this.#stop.signal);
      this.#failures = 0;
    } catch {
      this.#failures += 1;
    }
    this.#isBusy = false;
    if (this.#again) this.run();
    else this.#schedule();
  }

  /** Stop for good and abort the current run. */
  stop() {
    clearTimeout(this.#timer);
    this.#stop.abort();
  }

  #schedule() {
    if (document.hidden || this.#stop.signal.aborted) return;
    const pause = this.getPause();
    const longer = Math.min(pause * 2 ** this.#failures, Math.max(pause, MAX_PAUSE_SECONDS));
    this.#timer = setTimeout(() => this.run(), 1000 * longer);
  }

  #handleVisibility() {
    clearTimeout(this.#timer);
    if (!document.hidden) this.run();
  }
}
