/**
 * Points on the circle of 2^160. As text they are 40 hexadecimal digits (`Id`), for arithmetic a `bigint`, and to be
 * drawn a turn: the part of the circle passed clockwise from 0, 0 (inclusive) to 1 (exclusive).
 */
import type { Id } from "../api/schema";

export const BITS = 160n;
export const SIZE = 1n << BITS;
const DIGITS = 40;

/** `null`: not an id. Digits left out at the left are zeros, as in `ff`. */
export function parseId(text: string): bigint | null {
  const digits = text.trim().replace(/^0x/i, "");
  return /^[0-9a-f]{1,40}$/i.test(digits) ? BigInt(`0x${digits}`) : null;
}

export function toId(point: bigint): Id {
  return (((point % SIZE) + SIZE) % SIZE).toString(16).padStart(DIGITS, "0");
}

/** How far clockwise from `a` to `b`; 0 when they are equal. */
export function distance(a: bigint, b: bigint): bigint {
  return (((b - a) % SIZE) + SIZE) % SIZE;
}

/** A point or a distance as a part of the circle. 53 bits of it decide where a pixel is. */
export function turnOf(point: bigint): number {
  return Number(point >> (BITS - 53n)) / 2 ** 53;
}

export function turnOfId(id: Id): number {
  return Number.parseInt(id.slice(0, 13), 16) / 2 ** 52;
}

/** Part of the circle from `after` (exclusive) to `upTo` (inclusive); equal ends are all of it. */
export function shareOf(after: Id, upTo: Id): number {
  const [a, b] = [BigInt(`0x${after}`), BigInt(`0x${upTo}`)];
  return a === b ? 1 : turnOf(distance(a, b));
}

/** Enough of an id to tell it from others at a glance. */
export function shortId(id: Id): string {
  return id.slice(0, 8);
}

/** Where the turn `turn` is, as an id: what a click on the circle points at. */
export function idAtTurn(turn: number): Id {
  const part = turn - Math.floor(turn);
  return toId(BigInt(Math.floor(part * 2 ** 53)) << (BITS - 53n));
}
