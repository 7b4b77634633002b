/** What was measured since the page was opened: the lines behind the figures, and keys on their way. */
import type { Id, Millis, Node, Ring } from "../api/schema";
import type { Look } from "./ring";

/** Samples kept of each line: 3 minutes at one a second. */
const SAMPLES_MAX = 180;
/** A flow is shown for at least this long after the last key moved, else a quick move would be missed. */
const FLOW_SHOWN_MS = 2500;

export interface Sample {
  at: Millis;
  /** `null` where nothing was measured: a gap in the line. */
  ops: number | null;
  p50Us: number | null;
  p99Us: number | null;
}

/** Keys that come to and go from a member, per second; `shards`: those that change hands, keys or none. */
export interface Flow {
  received: number;
  sent: number;
  shards: number;
}

interface Track {
  samples: Sample[];
  keys: { at: Millis; sent: number; received: number };
  flow: Flow;
  flowUntil: Millis;
}

export class History {
  readonly #tracks = new Map<Id, Track>();
  readonly #whole: Sample[] = [];

  /** Takes in a picture of the ring. Pictures less than a second apart count as one. */
  take(ring: Ring): void {
    const { generatedAt: at, stats } = ring;
    push(this.#whole, { at, ops: stats.opsPerSecond, p50Us: stats.latencyP50UsMax, p99Us: stats.latencyP99UsMax });
    const present = new Set<Id>();
    for (const node of ring.nodes) {
      present.add(node.id);
      this.#follow(node, at);
    }
    for (const id of this.#tracks.keys()) {
      if (!present.has(id)) {
        this.#tracks.delete(id);
      }
    }
  }

  #follow(node: Node, at: Millis): void {
    const { stats } = node;
    if (!stats) {
      return;
    }
    const keys = { at, sent: stats.keysSent, received: stats.keysReceived };
    const track = this.#tracks.get(node.id) ?? { samples: [], keys, flow: NO_FLOW, flowUntil: 0 };
    this.#tracks.set(node.id, track);
    const heard = node.staleSince === null;
    const [ops, p50Us, p99Us] = [stats.opsPerSecond, stats.latencyP50Us, stats.latencyP99Us];
    push(track.samples, heard ? { at, ops, p50Us, p99Us } : { at, ops: null, p50Us: null, p99Us: null });

    const seconds = (at - track.keys.at) / 1000;
    // Totals that shrink: its process started anew.
    const [sent, received] = [keys.sent - track.keys.sent, keys.received - track.keys.received];
    const shards = heard ? stats.shardsMoving : 0;
    if (seconds > 0 && (sent > 0 || received > 0)) {
      track.flow = { sent: Math.max(sent, 0) / seconds, received: Math.max(received, 0) / seconds, shards };
      track.flowUntil = at + FLOW_SHOWN_MS;
      track.keys = keys;
    } else if (at >= track.flowUntil) {
      track.flow = shards > 0 ? { ...NO_FLOW, shards } : NO_FLOW;
      track.keys = keys;
    } else {
      track.flow = { ...track.flow, shards };
    }
  }

  /** Of the whole ring, oldest first. */
  get whole(): readonly Sample[] {
    return this.#whole;
  }

  of(id: Id): readonly Sample[] {
    return this.#tracks.get(id)?.samples ?? [];
  }

  flow(id: Id): Flow {
    return this.#tracks.get(id)?.flow ?? NO_FLOW;
  }
}

/** Which ways things move: a newcomer's shards come to it, a leaver's go; else only keys tell. */
export function flowsOf({ received, sent, shards }: Flow, look: Look) {
  const incoming = received > 0 || (shards > 0 && look === "joining");
  const outgoing = sent > 0 || (shards > 0 && look === "leaving");
  return { incoming, outgoing, unclear: shards > 0 && !incoming && !outgoing };
}

/** Time that a line's width stands for: a young line is not squeezed into a corner. */
export function windowOf(marks: readonly { at: Millis }[]): Millis {
  const age = (marks.at(-1)?.at ?? 0) - (marks[0]?.at ?? 0);
  return Math.min(Math.max(age, 30_000), SAMPLES_MAX * 1000);
}

export const NO_FLOW: Flow = { received: 0, sent: 0, shards: 0 };

function push(samples: Sample[], sample: Sample): void {
  const last = samples.at(-1);
  if (last && sample.at - last.at < 900) {
    return;
  }
  samples.push(sample);
  if (samples.length > SAMPLES_MAX) {
    samples.shift();
  }
}
