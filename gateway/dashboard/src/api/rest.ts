/** Questions to the gateway. All are GET: there is nothing here that could change a ring. */
import type { EventList, FingerTable, Id, Lookup, Problem } from "./schema";

/** What went wrong, in the gateway's words where it had some. `detail` says what to do. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    readonly title: string,
    readonly detail: string,
    /** HTTP status; 0: there was no answer. */
    readonly status: number,
  ) {
    super(`${title}: ${detail}`);
  }
}

const TIMEOUT_MS = 10_000;
const TRIES = 3;
/** Answers after which the same question may succeed. */
const TRANSIENT = [0, 429, 502, 503, 504];

export interface Api {
  fingers(id: Id, signal?: AbortSignal): Promise<FingerTable>;
  lookup(target: { key: string } | { id: string }, from: Id | null, signal?: AbortSignal): Promise<Lookup>;
  events(since: number, signal?: AbortSignal): Promise<EventList>;
}

/** `base` is the URL of the API, for example `https://ring.example/below/api/v1/`. */
export function api(base: string, fetching: typeof fetch = fetch): Api {
  const get = <T>(path: string, query: Record<string, string>, signal?: AbortSignal) => {
    const url = new URL(path, base);
    url.search = new URLSearchParams(query).toString();
    return retried<T>(() => once<T>(fetching, url, signal), signal);
  };
  return {
    fingers: (id, signal) => get(`ring/nodes/${id}/fingers`, {}, signal),
    lookup: (target, from, signal) => get("lookup", { ...target, ...(from && { from }) }, signal),
    events: (since, signal) => get("events", { since: String(since) }, signal),
  };
}

interface Failed {
  error: ApiError;
  retryAfterMs: number;
}

async function once<T>(fetching: typeof fetch, url: URL, signal?: AbortSignal): Promise<T | Failed> {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  let response: Response;
  try {
    response = await fetching(url, { signal: signal ? AbortSignal.any([signal, limit]) : limit });
  } catch {
    signal?.throwIfAborted();
    const why = limit.aborted ? "did not answer in time" : "cannot be reached";
    return { error: new ApiError("No answer", `The gateway ${why}; is the network up?`, 0), retryAfterMs: 0 };
  }
  if (response.ok) {
    return (await response.json()) as T;
  }
  const problem: Partial<Problem> = await response.json().catch(() => ({}));
  const title = problem.title ?? `Status ${response.status}`;
  const error = new ApiError(title, problem.detail ?? "The gateway gave no reason.", response.status);
  const retryAfterMs = Number(response.headers.get("retry-after") ?? 0) * 1000;
  return { error, retryAfterMs: Number.isFinite(retryAfterMs) ? retryAfterMs : 0 };
}

async function retried<T>(ask: () => Promise<T | Failed>, signal?: AbortSignal): Promise<T> {
  for (let tried = 1; ; tried += 1) {
    const answer = await ask();
    if (!isFailed(answer)) {
      return answer;
    }
    // Nobody waits longer than a few seconds before a screen.
    if (tried === TRIES || !TRANSIENT.includes(answer.error.status) || answer.retryAfterMs > 3000) {
      throw answer.error;
    }
    await pause(Math.max(answer.retryAfterMs, 300 * tried), signal);
  }
}

function isFailed<T>(answer: T | Failed): answer is Failed {
  return typeof answer === "object" && answer !== null && "error" in answer && answer.error instanceof ApiError;
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
