/** How one picture of the ring turns into the next: members grow in, arcs stretch, members fade out. */
import type { Id } from "../api/schema";
import { lookOf, type Seat } from "./ring";

export interface Posed extends Seat {
  /** 0: not there, 1: there. */
  presence: number;
}

export function still(seats: readonly Seat[]): Posed[] {
  return seats.map((seat) => ({ ...seat, presence: 1 }));
}

/** For drawing: who is silent first, so that whoever took its arc over is seen above it. */
export function claims(a: Posed, b: Posed): number {
  return Number(a.node.staleSince === null) - Number(b.node.staleSince === null);
}

/** Between two pictures; `t` from 0 to 1. At 1 it is `still(to)`: who left is gone. */
export function between(from: readonly Posed[], to: readonly Seat[], t: number): Posed[] {
  if (t >= 1) {
    return still(to);
  }
  const before = new Map<Id, Posed>(from.map((seat) => [seat.node.id, seat]));
  const posed: Posed[] = [];
  for (const seat of to) {
    const old = before.get(seat.node.id);
    before.delete(seat.node.id);
    const [span, presence] = [old?.span ?? 0, old?.presence ?? 0];
    posed.push({ ...seat, span: span + (seat.span - span) * t, presence: presence + (1 - presence) * t });
  }
  for (const old of before.values()) {
    posed.push({ ...old, look: lookOf(old.node), span: old.span * (1 - t), presence: old.presence * (1 - t) });
  }
  return posed.sort((a, b) => a.turn - b.turn);
}

/** Whether there is anything to animate. */
export function differs(from: readonly Posed[], to: readonly Seat[]): boolean {
  const isSame = (seat: Seat, at: number) => {
    const old = from[at];
    return old?.node.id === seat.node.id && old.presence === 1 && Math.abs(old.span - seat.span) < 1e-6;
  };
  return from.length !== to.length || !to.every(isSame);
}

/** Slow at both ends. */
export function ease(t: number): number {
  return t < 0.5 ? 4 * t ** 3 : 1 - (2 - 2 * t) ** 3 / 2;
}
