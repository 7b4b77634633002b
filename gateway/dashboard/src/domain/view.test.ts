import { expect, test } from "vitest";
import { ringOf } from "../testing/samples";
import { place } from "./geometry";
import { loadBars } from "./load";
import { NO_ZOOM, turnNear, viewOf } from "./view";

const names = { count: 5, full: 11, short: 1 };

test("the circle is in the middle and leaves room for names", () => {
  const view = viewOf({ width: 900, height: 600 }, NO_ZOOM, names);
  expect(view.centre).toEqual({ x: 450, y: 300 });
  expect(view.radius).toBe(250);
  expect(view.labels).toBe("full");
});

test("a phone gets short names, and a crowd none", () => {
  expect(viewOf({ width: 340, height: 340 }, NO_ZOOM, names).labels).toBe("short");
  expect(viewOf({ width: 900, height: 600 }, NO_ZOOM, { ...names, count: 1000 }).labels).toBe("none");
  for (const width of [200, 340, 700, 2000]) {
    const { radius } = viewOf({ width, height: 600 }, NO_ZOOM, names);
    expect(radius).toBeGreaterThanOrEqual(60);
    expect(radius).toBeLessThan(width / 2);
  }
});

test("zooming keeps the place under the pointer", () => {
  const size = { width: 800, height: 800 };
  const [plain, near] = [viewOf(size, NO_ZOOM, names), viewOf(size, { k: 2, x: -400, y: -400 }, names)];
  expect(near.centre).toEqual(plain.centre);
  expect(near.radius).toBe(plain.radius * 2);
});

test("the pointer means a turn near the circle, and nothing in the middle or far outside", () => {
  const view = viewOf({ width: 800, height: 800 }, NO_ZOOM, names);
  for (const turn of [0, 0.3, 0.99]) {
    const at = place(turn, view.radius + 3);
    expect(turnNear(view, { x: at.x + view.centre.x, y: at.y + view.centre.y })).toBeCloseTo(turn);
  }
  expect(turnNear(view, view.centre)).toBeNull();
  expect(turnNear(view, { x: 1, y: 1 })).toBeNull();
});

test("load is held against the mean of those that serve", () => {
  const ring = ringOf(2);
  const [one, two] = ring.nodes;
  if (!one?.stats || !two?.stats) {
    throw new Error("the sample has no figures");
  }
  const loaded = (first: number, second: number) =>
    loadBars([
      { ...one, stats: { ...one.stats, keysLeader: first } as typeof one.stats },
      { ...two, stats: { ...two.stats, keysLeader: second } as typeof two.stats },
    ]);
  expect(loaded(30, 10).mean).toBe(20);
  expect(loaded(30, 10).bars.map((bar) => bar.ofMean)).toEqual([1.5, 0.5]);
  expect(loaded(0, 0)).toMatchObject({ mean: null, bars: [{ ofMean: null }, { ofMean: null }] });
  expect(loadBars([{ ...one, stats: null }]).bars).toEqual([]);
});
