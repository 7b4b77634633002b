/**
 * What the gateway says, as JSON. Kept in step with `gateway/src/schema.rs`; `gateway/testdata/*.json` are
 * examples of every document, which a test compares with the Rust serializer.
 *
 * All paths below are relative to the base path (`--base-path`), for example `${base}api/v1/ring`.
 * Fields that a document does not have are `null`, never missing, unless marked with `?`.
 */

/** A point on the circle of 2^160: 40 lower-case hexadecimal digits. */
export type Id = string;
/** Milliseconds since the Unix epoch. */
export type Millis = number;
/** A whole number from 0; the gateway cuts it to 2^53 - 1, so that a `number` holds it exactly. */
export type Count = number;

/** Where a member stands in its life. `Left` and `Evicted` members leave the ring's list of nodes. */
export type MemberState = "Joining" | "Serving" | "Leaving" | "Left" | "Evicted" | "Empty" | "Unknown";

export interface NodeName {
  id: Id;
  name: string;
}

export interface Node extends NodeName {
  state: MemberState;
  /** Whether most of the other members reach it (an opinion). `false` and Serving: suspect. */
  reachable: boolean;
  /** Since when the gateway has heard nothing from it: all below is as of then. `null`: it is heard now. */
  staleSince: Millis | null;
  /** Counts the starts of its process. */
  incarnation: Count;
  /** Failure domain; `""`: unknown. */
  zone: string;
  /** host:port at which applications reach it; `""`: unknown. */
  clientAddr: string;
  predecessor: Id | null;
  /** Nearest first. */
  successors: Id[];
  /** Part of the circle it owns, from its predecessor (exclusive) to itself (inclusive), 0..=1. */
  ownedShare: number;
  /** `null`: the gateway never heard from it. */
  stats: NodeStats | null;
  /** Of the binary; `null`: never heard from. */
  version: string | null;
  uptimeMs: Count | null;
}

/** What a node measures of itself. Totals are since the start of its process. */
export interface NodeStats {
  keysLeader: Count;
  keysReplica: Count;
  bytes: Count;
  shardsLeader: Count;
  shardsReplica: Count;
  shardsUnderReplicated: Count;
  shardsMoving: Count;
  gets: Count;
  puts: Count;
  deletes: Count;
  opsPerSecond: number;
  /** Microseconds, over the last minute; `null`: no operation in that time. */
  latencyP50Us: Count | null;
  latencyP99Us: Count | null;
  lookups: Count;
  /** How often a lookup is handed on; 0: who is asked owns the key. `null`: no lookup yet. */
  lookupHopsMean: number | null;
  stabilizeRounds: Count;
  keysSent: Count;
  keysReceived: Count;
}

/** The whole ring. GET api/v1/stats. Sums are over the nodes that were ever heard from, stale ones included. */
export interface RingStats {
  nodes: Count;
  serving: Count;
  reachable: Count;
  stale: Count;
  keys: Count;
  /** Of all replicas. */
  bytes: Count;
  /** Keys led by the fullest Serving node over their mean, 1 is even; `null`: no keys. */
  loadMaxMean: number | null;
  shardsUnderReplicated: Count;
  shardsMoving: Count;
  gets: Count;
  puts: Count;
  deletes: Count;
  opsPerSecond: number;
  /** Of the slowest node (percentiles of different nodes cannot be added); `null`: no operation lately. */
  latencyP50UsMax: Count | null;
  latencyP99UsMax: Count | null;
  lookups: Count;
  lookupHopsMean: number | null;
  stabilizeRounds: Count;
  keysSent: Count;
  keysReceived: Count;
  /** Every node is heard from and points to its true neighbours. */
  converged: boolean;
  /** A sentence that says what is not so; `null` when converged. */
  notConvergedBecause: string | null;
}

/** GET api/v1/ring. Before any member was reached: `ringId` null and no nodes. */
export interface Ring {
  /** 32 hexadecimal digits. */
  ringId: string | null;
  name: string;
  namespace: string;
  /** Number of the last delta this includes. Counts within a `stream`. */
  sequence: Count;
  /** Names the run of the gateway that counts `sequence` and event numbers; replicas have different ones. */
  stream: string;
  shards: Count;
  replicationFactor: Count;
  generatedAt: Millis;
  converged: boolean;
  /** Sorted by id. */
  nodes: Node[];
  stats: RingStats;
  /** `null`: no operator has spoken; outside of Kubernetes there is none. */
  operator: OperatorStatus | null;
}

/** What the operator said last, as the members hand it on. */
export interface OperatorStatus {
  /** When it said so, by its own clock. It speaks at least once a minute. */
  at: Millis;
  /** Members asked for, members there, members that serve. */
  wanted: Count;
  members: Count;
  serving: Count;
  /** `null`: nothing is under way. */
  operation: Operation | null;
  conditions: Condition[];
}
export interface Operation {
  /** "Join", "Leave", "Replace". */
  kind: string;
  /** Name of the member it is about. */
  member: string;
  /** How far it is: one plain sentence. */
  progress: string;
}
export interface Condition {
  /** "Ready", "Available", "Progressing", ... */
  type: string;
  /** "True", "False" or "Unknown". */
  status: string;
  reason: string;
  message: string;
  /** When the status became so. */
  since: Millis;
}

/** GET api/v1/ring/nodes. */
export interface NodeList {
  nodes: Node[];
}

/** GET api/v1/ring/nodes/{id}/fingers, asked of the node itself. */
export interface FingerTable {
  node: NodeName;
  /** All of them, by index. */
  fingers: Finger[];
  /** Neighbouring fingers with the same target as one. A target comes twice only while the table is repaired. */
  folded: FoldedFinger[];
}
export interface Finger {
  /** 0..=159. */
  index: Count;
  /** Node id + 2^index. */
  start: Id;
  /** `null`: not known yet. */
  target: NodeName | null;
}
export interface FoldedFinger {
  first: Count;
  last: Count;
  /** From the start of finger `first` (inclusive) ... */
  from: Id;
  /** ... to the start of finger `last` + 1 (exclusive); the node itself after finger 159. */
  until: Id;
  target: NodeName | null;
}

/** GET api/v1/lookup?key=TEXT | keyBase64=BYTES | id=ID, and from=ID (else: some node that answers). */
export interface Lookup {
  /** As asked, when it was a `key` or is UTF-8; else `null`. */
  key: string | null;
  /** The identifier that was looked up. */
  target: Id;
  from: NodeName;
  /** From `from` to `owner`, as it was really walked. */
  hops: Hop[];
  /** Time of the whole lookup as `from` measured it, microseconds. */
  elapsedUs: Count;
  owner: NodeName;
  shard: Count;
  /** The one-hop answer: who leads the shard, by the cache of `from`; `null`: not known there. */
  leader: NodeName | null;
  replicas: NodeName[];
}
export interface Hop {
  node: NodeName;
  /** Why it was chosen: "start", "finger 12", "successor 3", "owner". */
  via: string;
  /** From the start of the lookup until this node answered, microseconds. */
  elapsedUs: Count;
  /** Where the target is still sought: from this node to the target; at the owner: what it owns. */
  interval: Interval;
}
/** An arc, clockwise: after `after` (exclusive) up to `upTo` (inclusive); equal ends: the whole circle. */
export interface Interval {
  after: Id;
  upTo: Id;
  /** Part of the circle, 0..=1. */
  share: number;
}

/** GET api/v1/events?since=NUMBER (default 0): kept events with a larger number, oldest first. */
export interface EventList {
  /** See `Ring.stream`: numbers of another stream mean nothing here. */
  stream: string;
  /** Number of the oldest event kept; 0: none. If it is above since + 1, older ones are forgotten. */
  oldest: Count;
  /** Number of the newest; 0: none yet. */
  newest: Count;
  events: RingEvent[];
}
export interface RingEvent {
  number: Count;
  at: Millis;
  /** "join", "leave", "suspect", "alive", "restart", "transfer", "operation", "condition", "lead", ... */
  kind: string;
  /** Who says it; what the gateway itself notices ("stale", "transfer", ...) has `null`. */
  reporter: NodeName | null;
  subject: NodeName | null;
  shard: Count | null;
  /** One plain sentence. */
  message: string;
}

/**
 * WebSocket api/v1/ws. The server sends a snapshot, then deltas with sequence + 1 each; a snapshot may come again
 * at any time (the client was too slow, or the ring is another one) and replaces everything.
 * `api/v1/ws?stream=S&sequence=N` resumes: deltas after N, or a snapshot when those are gone.
 */
export type ServerMessage = Snapshot | Delta;
export interface Snapshot {
  type: "snapshot";
  sequence: Count;
  ring: Ring;
}
export interface Delta {
  type: "delta";
  sequence: Count;
  generatedAt: Millis;
  converged: boolean;
  /** New or changed nodes, whole. */
  nodes: Node[];
  removed: Id[];
  stats: RingStats;
  /** Only when it changed. */
  operator?: OperatorStatus;
  events: RingEvent[];
}
/** All a client may send: at any time, to get what it missed. Anything else closes the socket (code 1008). */
export interface Resume {
  type: "resume";
  stream: string;
  sequence: Count;
}

/** Every error, as application/problem+json (RFC 9457). `detail` says what to do. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
}
