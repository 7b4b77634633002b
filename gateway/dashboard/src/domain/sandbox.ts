/** A sandbox's world as a ring like the real one, so that it is drawn by the same code. */
import type { Flight, Frame, LogEntry, SandboxNode } from "../api/sandbox";
import type { Id, Node, NodeStats, Ring, RingStats } from "../api/schema";
import { shareOf } from "./id";

const NO_STATS: NodeStats = {
  keysLeader: 0,
  keysReplica: 0,
  bytes: 0,
  shardsLeader: 0,
  shardsReplica: 0,
  shardsUnderReplicated: 0,
  shardsMoving: 0,
  gets: 0,
  puts: 0,
  deletes: 0,
  opsPerSecond: 0,
  latencyP50Us: null,
  latencyP99Us: null,
  lookups: 0,
  lookupHopsMean: null,
  stabilizeRounds: 0,
  keysSent: 0,
  keysReceived: 0,
};

/** Keys in the world, each counted where it is led. */
export const keysOf = (frame: Frame) => frame.nodes.reduce((sum, node) => sum + node.keysLeader, 0);

export function ringOfFrame(frame: Frame): Ring {
  const ids = new Map(frame.nodes.map((node) => [node.node, node.id]));
  const nodes = frame.nodes.map((node) => nodeOf(node, ids)).sort((a, b) => (a.id < b.id ? -1 : 1));
  const stats: RingStats = {
    ...NO_STATS,
    nodes: nodes.length,
    serving: nodes.filter((node) => node.state === "Serving" && node.reachable).length,
    reachable: nodes.filter((node) => node.reachable).length,
    stale: 0,
    keys: keysOf(frame),
    loadMaxMean: null,
    latencyP50UsMax: null,
    latencyP99UsMax: null,
    converged: frame.ideal,
    notConvergedBecause: null,
  };
  return {
    ringId: null,
    name: "sandbox",
    namespace: "",
    sequence: 0,
    stream: "",
    shards: 64,
    replicationFactor: frame.replicationFactor,
    generatedAt: frame.nowMs,
    converged: frame.ideal,
    nodes,
    stats,
    operator: null,
  };
}

function nodeOf(node: SandboxNode, ids: ReadonlyMap<number, Id>): Node {
  const predecessor = node.predecessor === null ? null : (ids.get(node.predecessor) ?? null);
  const { keysLeader, keysReplica, shardsMoving, keysSent, keysReceived } = node;
  return {
    id: node.id,
    name: node.name,
    // A process that ended says nothing; what the others last knew of it is that it served.
    state: node.up ? node.state : "Serving",
    reachable: node.up,
    staleSince: node.up ? null : 0,
    incarnation: 0,
    zone: "",
    clientAddr: "",
    predecessor,
    successors: node.successors.flatMap((successor) => ids.get(successor) ?? []),
    ownedShare: predecessor === null ? 0 : shareOf(predecessor, node.id),
    stats: { ...NO_STATS, keysLeader, keysReplica, shardsMoving, keysSent, keysReceived },
    version: null,
    uptimeMs: null,
  };
}

/** How far a message has come, 0..=1. */
export function flown(flight: Flight, nowMs: number): number {
  const part = (nowMs - flight.sentMs) / Math.max(flight.arrivesMs - flight.sentMs, 1e-6);
  return Math.min(Math.max(part, 0), 1);
}

/** What is drawn: a node that says the same to another about many shards at once is seen saying it once. */
export function seenFlights(flights: readonly Flight[]): Map<string, Flight> {
  return new Map(flights.map((flight) => [`${flight.from} ${flight.to} ${flight.title} ${flight.sentMs}`, flight]));
}

/** Said so often that it drowns the rest, except to those who go step by step. */
export const ROUTINE = new Set(["stabilize", "notify", "write"]);
const LOG_MAX = 200;

/** The newest of both, without routine unless that is wanted. */
export function logged(old: readonly LogEntry[], more: readonly LogEntry[], routine: boolean): readonly LogEntry[] {
  // The same is said about many shards, and by every member about a newcomer; once is enough.
  const said = new Set(old.slice(-20).map((entry) => entry.text));
  const wanted = more.filter((entry) => {
    const isNew = !said.has(entry.text) && (routine || !ROUTINE.has(entry.title));
    said.add(entry.text);
    return isNew;
  });
  return wanted.length === 0 ? old : [...old, ...wanted].slice(-LOG_MAX);
}
