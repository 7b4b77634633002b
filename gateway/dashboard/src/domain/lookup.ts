/** A lookup that was really walked, as something to be watched: what is shown after each hop. */
import type { Interval, Lookup } from "../api/schema";
import type { Arc } from "./geometry";
import { turnOfId } from "./id";

/** Where the watcher is: hops shown (0: only the start), and whether it goes on by itself. */
export interface Playback {
  step: number;
  playing: boolean;
}

export const SPEEDS = [0.25, 0.5, 1, 2, 4] as const;
/** At speed 1. Real hops take less than a thousandth of it. */
const HOP_SHOWN_MS = 1400;

export function hopShownMs(speed: number): number {
  return HOP_SHOWN_MS / speed;
}

export type Control = "play" | "pause" | "forward" | "back" | "first" | "last" | { to: number };

/** `last` is the number of the last step. Playing from the end begins again. */
export function controlled({ step }: Playback, control: Control, last: number): Playback {
  const to = (wanted: number) => Math.min(Math.max(wanted, 0), last);
  if (typeof control === "object") {
    return { step: to(control.to), playing: false };
  }
  switch (control) {
    case "play":
      return { step: step >= last ? 0 : step, playing: last > 0 };
    case "pause":
      return { step, playing: false };
    case "forward":
      return { step: to(step + 1), playing: false };
    case "back":
      return { step: to(step - 1), playing: false };
    case "first":
      return { step: 0, playing: false };
    case "last":
      return { step: last, playing: false };
  }
}

/** The watcher's clock: one hop on, and at the end it stops. */
export function ticked({ step, playing }: Playback, last: number): Playback {
  return playing ? { step: Math.min(step + 1, last), playing: step + 1 < last } : { step, playing };
}

export function lastStep(lookup: Lookup): number {
  return Math.max(lookup.hops.length - 1, 0);
}

export function arcOfInterval({ after, share }: Interval): Arc {
  return { start: turnOfId(after), span: share };
}

/** Time of each hop alone, microseconds. */
export function hopTimes(lookup: Lookup): number[] {
  return lookup.hops.map((hop, at) => hop.elapsedUs - (lookup.hops[at - 1]?.elapsedUs ?? 0));
}

/** Why a node was chosen, in a sentence that ends without a full stop. */
export function whyOf(via: string): string {
  const [kind, number] = via.split(" ");
  switch (kind) {
    case "start":
      return "the lookup starts here";
    case "finger":
      return `finger ${number}: the closest it knows before the key`;
    case "successor":
      return `entry ${number} of its successor list: the closest it knows before the key`;
    case "owner":
      return "it owns the key";
    default:
      return via;
  }
}

/** Hops that Chord promises with high probability, log2 N, and what is usual, half of it. */
export function expectedHops(nodes: number): number {
  return nodes > 1 ? Math.log2(nodes) / 2 : 0;
}
