/** What the ring looks like, from what the gateway says about it. Pure. */
import type { Delta, Id, Node, Ring } from "../api/schema";
import { type Arc, wrap } from "./geometry";
import { turnOfId } from "./id";

/** How a member is drawn. Each has a colour and a shape of its own. */
export type Look = "serving" | "joining" | "leaving" | "suspect" | "lost" | "unheard" | "waiting";

export const LOOKS: Record<Look, { label: string; meaning: string }> = {
  serving: { label: "Serving", meaning: "Owns its arc, and answers for it." },
  joining: { label: "Joining", meaning: "Has its place on the circle; the keys it will hold are on their way." },
  leaving: { label: "Leaving", meaning: "Hands its keys over; when all are, it goes." },
  suspect: { label: "Suspect", meaning: "Most other members cannot reach it. It may be slow, cut off or dead." },
  lost: { label: "Lost", meaning: "Neither the gateway nor most other members reach it. Its figures are old." },
  unheard: { label: "Not heard", meaning: "The gateway hears nothing from it, other members do. Its figures are old." },
  waiting: { label: "Waiting", meaning: "It is not part of a ring, or does not say what it does." },
};

export function lookOf(node: Node): Look {
  const isJoining = node.state === "Joining";
  if (node.staleSince !== null && !(isJoining && node.stats === null)) {
    return node.reachable ? "unheard" : "lost";
  }
  if (!node.reachable && node.state === "Serving") {
    return "suspect";
  }
  switch (node.state) {
    case "Serving":
      return "serving";
    case "Joining":
      return "joining";
    case "Leaving":
      return "leaving";
    default:
      return "waiting";
  }
}

/** A member's place: its point, and the arc it owns, which ends there. */
export interface Seat {
  node: Node;
  look: Look;
  turn: number;
  span: number;
}

/** In the order of the circle. */
export function seatsOf(nodes: readonly Node[]): Seat[] {
  return nodes.map((node) => ({ node, look: lookOf(node), turn: turnOfId(node.id), span: node.ownedShare }));
}

export function arcOf({ turn, span }: { turn: number; span: number }): Arc {
  return { start: turn - span, span };
}

/** The member that is meant by a place on the circle: the nearest marker within `reach` turns, else who owns it. */
export function seatAt(seats: readonly Seat[], turn: number, reach: number): Seat | null {
  const after = firstFrom(seats, turn);
  if (!after) {
    return null;
  }
  const before = seats[(seats.indexOf(after) + seats.length - 1) % seats.length] ?? after;
  const [ahead, behind] = [wrap(after.turn - turn), wrap(turn - before.turn)];
  return behind < ahead && behind <= reach ? before : after;
}

/** Chord's successor of a place: the first member at or after it. */
function firstFrom(seats: readonly Seat[], turn: number): Seat | undefined {
  let [low, high] = [0, seats.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((seats[middle]?.turn ?? 1) < turn) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return seats[low] ?? seats[0];
}

/** The member `step` places on, clockwise; from nowhere: the first or the last. */
export function neighbour(nodes: readonly Node[], from: Id | null, step: 1 | -1): Id | null {
  const at = nodes.findIndex((node) => node.id === from);
  const next = at < 0 ? (step === 1 ? 0 : nodes.length - 1) : (at + step + nodes.length) % nodes.length;
  return nodes[next]?.id ?? null;
}

/** Who should hold the keys of a member's arc: itself, then the next of its successors, `factor` in all. */
export function replicaSet(node: Node, factor: number): Id[] {
  return [...new Set([node.id, ...node.successors])].slice(0, Math.max(factor, 1));
}

/** The ring after a delta; `null`: the delta is not the next one. */
export function applied(ring: Ring, delta: Delta): Ring | null {
  if (delta.sequence !== ring.sequence + 1) {
    return null;
  }
  const { generatedAt, converged, stats, sequence } = delta;
  const nodes = new Map(ring.nodes.map((node) => [node.id, node]));
  for (const id of delta.removed) {
    nodes.delete(id);
  }
  for (const node of delta.nodes) {
    nodes.set(node.id, node);
  }
  const sorted = [...nodes.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const operator = delta.operator ?? ring.operator;
  return { ...ring, sequence, generatedAt, converged, stats, operator, nodes: sorted };
}

/** Names without what all of them begin with, up to a dash: `demo-node-3` is `3` among its like. */
export function shortNames(names: readonly string[]): Map<string, string> {
  const first = names[0] ?? "";
  let common = names.length > 1 ? first.length : 0;
  for (const name of names) {
    while (!name.startsWith(first.slice(0, common))) {
      common -= 1;
    }
  }
  const cut = first.slice(0, common).lastIndexOf("-") + 1;
  return new Map(names.map((name) => [name, name.slice(cut) || name]));
}
