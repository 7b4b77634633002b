/** What kinds of events mean, and which weigh how much. */
import type { RingEvent } from "../api/schema";

export type Tone = "good" | "change" | "warning" | "quiet";

interface Kind {
  label: string;
  tone: Tone;
  meaning: string;
}

const KINDS: Record<string, Kind> = {
  join: { label: "Join", tone: "good", meaning: "A member takes its place, or has all the keys it should hold." },
  rejoin: { label: "Rejoin", tone: "change", meaning: "A member that nobody pointed to any more joins anew." },
  leave: { label: "Leave", tone: "change", meaning: "A member handed over what it held, and went." },
  suspect: { label: "Suspect", tone: "warning", meaning: "A member does not answer another one in time." },
  alive: { label: "Alive", tone: "good", meaning: "A member that was suspected answers again." },
  stale: { label: "Silent", tone: "warning", meaning: "The gateway hears nothing from a member any more." },
  fresh: { label: "Heard again", tone: "good", meaning: "The gateway hears a member again." },
  restart: { label: "Restart", tone: "change", meaning: "A member's process was started again, as in a rollout." },
  transfer: { label: "Transfer", tone: "change", meaning: "Keys move to a member or away from it, or have moved." },
  operation: { label: "Operator", tone: "change", meaning: "The operator begins to change the ring, or is done." },
  condition: { label: "Condition", tone: "change", meaning: "What the operator says of the ring has changed." },
  successor: { label: "Successor", tone: "quiet", meaning: "A member points to another next one on the circle." },
  predecessor: { label: "Predecessor", tone: "quiet", meaning: "A member points to another one before it." },
  lead: { label: "Leader", tone: "quiet", meaning: "A replica now orders the writes of a shard." },
  installed: { label: "Installed", tone: "quiet", meaning: "A shard has a new set of replicas." },
};

export function kindOf(event: Pick<RingEvent, "kind">): Kind {
  return KINDS[event.kind] ?? { label: event.kind, tone: "quiet", meaning: "A node reports this." };
}

export const KNOWN_KINDS = Object.keys(KINDS);

/** Kept in the page; the gateway keeps as many. */
const EVENTS_MAX = 1000;

/** Two lists of one stream as one, by number, each event once. */
export function merged(old: readonly RingEvent[], more: readonly RingEvent[]): RingEvent[] {
  const last = old.at(-1)?.number ?? 0;
  const first = more[0]?.number ?? 0;
  const all = first > last ? [...old, ...more] : [...new Map([...old, ...more].map((it) => [it.number, it])).values()];
  return all.sort((a, b) => a.number - b.number).slice(-EVENTS_MAX);
}
