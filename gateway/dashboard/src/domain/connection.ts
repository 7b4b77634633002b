/** What the page knows about its line to the gateway. */
import type { Millis } from "../api/schema";

export type Connection =
  | { kind: "connecting" }
  | { kind: "live" }
  /** `heardAt`: what is shown is as of then; `null`: nothing was ever heard. */
  | { kind: "reconnecting"; heardAt: Millis | null; attempt: number; retryAt: Millis };

/** Before the try number `attempt`, from 1. `random` is in 0..1: a thousand pages must not come back at once. */
export function retryDelayMs(attempt: number, random: number): number {
  return Math.min(500 * 2 ** Math.min(attempt - 1, 10), 10_000) * (0.5 + random / 2);
}

/** Silence after which the line counts as broken: a ring that works has news every few seconds. */
export const SILENCE_MAX_MS = 20_000;
/** Until then, a broken line is no reason to call the picture old. */
const STALE_AFTER_MS = 4000;

/** Since when the picture is old; `null`: it is not. */
export function staleSince(connection: Connection, now: Millis): Millis | null {
  const heardAt = connection.kind === "reconnecting" ? connection.heardAt : null;
  return heardAt !== null && now - heardAt > STALE_AFTER_MS ? heardAt : null;
}
