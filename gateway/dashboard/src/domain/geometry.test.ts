import { describe, expect, test } from "vitest";
import { arcBand, arcLine, bend, chord, holds, inset, onChord, place, shortest, turnAt, wrap } from "./geometry";

/** Ends of a path: the first and the last pair of numbers. */
function ends(path: string) {
  const numbers = path.match(/-?\d+(\.\d+)?/g)?.map(Number) ?? [];
  return { first: { x: numbers[0], y: numbers[1] }, last: { x: numbers.at(-2), y: numbers.at(-1) } };
}
const near = (found: { x?: number | undefined; y?: number | undefined }, x: number, y: number) => {
  expect(found.x).toBeCloseTo(x, 1);
  expect(found.y).toBeCloseTo(y, 1);
};

test("turn 0 is at the top and turns go clockwise", () => {
  near(place(0, 10), 0, -10);
  near(place(0.25, 10), 10, 0);
  near(place(0.5, 10), 0, 10);
  near(place(0.75, 10), -10, 0);
  for (const turn of [0, 0.1, 0.25, 0.49, 0.5, 0.75, 0.999]) {
    expect(turnAt(place(turn, 3))).toBeCloseTo(turn, 9);
  }
});

test("turns are taken off whole rounds", () => {
  expect(wrap(1.25)).toBe(0.25);
  expect(wrap(-0.25)).toBe(0.75);
  expect(wrap(-1e-18)).toBe(0);
  expect(shortest(0.9, 0.1)).toBeCloseTo(0.2);
  expect(shortest(0.1, 0.9)).toBeCloseTo(-0.2);
  expect(shortest(0, 0.5)).toBe(0.5);
});

describe("an arc past the top", () => {
  const arc = { start: 0.9, span: 0.2 };
  test("holds what is on both sides of zero, its end and not its start", () => {
    expect([0.95, 0, 0.05, 0.1].map((turn) => holds(arc, turn))).toEqual([true, true, true, true]);
    expect([0.9, 0.11, 0.5].map((turn) => holds(arc, turn))).toEqual([false, false, false]);
  });
  test("is drawn clockwise from its start to its end", () => {
    const { first, last } = ends(arcLine(arc, 100));
    const [start, end] = [place(0.9, 100), place(0.1, 100)];
    near(first, start.x, start.y);
    near(last, end.x, end.y);
    expect(arcLine(arc, 100)).toContain("0 0 1 0 -100");
  });
});

test("arcs of more than half a circle need no large-arc flag, and a whole circle closes", () => {
  expect(arcLine({ start: 0, span: 0.75 }, 10)).not.toMatch(/ 0 1 1 /);
  const { first, last } = ends(arcLine({ start: 0.3, span: 1 }, 10));
  expect(first).toEqual(last);
  expect(arcLine({ start: 0.3, span: 0 }, 10)).toBe("");
  expect(arcBand({ start: 0.3, span: 0 }, 8, 10)).toBe("");
  expect(arcBand({ start: 0, span: 1 }, 8, 10).match(/Z/g)).toHaveLength(2);
  expect(arcBand({ start: 0, span: 0.5 }, 8, 10).match(/Z/g)).toHaveLength(1);
});

test("gaps never eat an arc, and whole circles have none", () => {
  expect(inset({ start: 0.5, span: 0.3 }, 0.01).span).toBeCloseTo(0.28);
  expect(inset({ start: 0.5, span: 0.003 }, 0.01).span).toBeCloseTo(0.001);
  expect(inset({ start: 0.5, span: 1 }, 0.01)).toEqual({ start: 0.5, span: 1 });
});

test("chords of neighbours stay near the circle, opposite ones pass the middle", () => {
  const radius = (point: { x: number; y: number }) => Math.hypot(point.x, point.y);
  expect(radius(bend(0, 0.02, 100))).toBeGreaterThan(80);
  expect(radius(bend(0, 0.5, 100))).toBeLessThan(20);
  // Past the top they bend over the top, not over the bottom.
  expect(bend(0.95, 0.05, 100).y).toBeLessThan(0);
  near(onChord(0.1, 0.4, 100, 0), place(0.1, 100).x, place(0.1, 100).y);
  near(onChord(0.1, 0.4, 100, 1), place(0.4, 100).x, place(0.4, 100).y);
  near(ends(chord(0.1, 0.4, 100)).last, place(0.4, 100).x, place(0.4, 100).y);
});
