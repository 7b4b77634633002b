import { expect, test } from "vitest";
import type { RingEvent } from "../api/schema";
import { retryDelayMs, staleSince } from "./connection";
import { kindOf, merged } from "./events";
import { bytes, compact, count, micros, percent, plural, rate, span } from "./format";
import { formatRoute, parseRoute, type Route } from "./route";

test("figures", () => {
  expect([count(1234567), count(null), compact(9999), compact(12_345_678)]).toEqual([
    "1,234,567",
    "–",
    "9,999",
    "12.3M",
  ]);
  expect([rate(0), rate(2.55), rate(4321)]).toEqual(["0", "2.5", "4,321"]);
  expect([bytes(0), bytes(1023), bytes(1536), bytes(104_400_000)]).toEqual(["0 B", "1,023 B", "1.50 KiB", "99.6 MiB"]);
  expect([micros(240), micros(1900), micros(123_000), micros(2_500_000)]).toEqual([
    "240 µs",
    "1.90 ms",
    "123 ms",
    "2.50 s",
  ]);
  expect([percent(1), percent(0.125), percent(0), percent(0.0012), percent(1e-40)]).toEqual([
    "100 %",
    "12.5 %",
    "0 %",
    "0.12 %",
    "< 0.01 %",
  ]);
  expect([plural(1, "member"), plural(2, "member"), plural(0, "entry", "entries")]).toEqual([
    "1 member",
    "2 members",
    "0 entries",
  ]);
});

test("spans name their two largest units", () => {
  expect([0, 999, 61_000, 3_600_000, 90_061_000].map(span)).toEqual(["0 s", "0 s", "1 min 1 s", "1 h", "1 d 1 h"]);
  expect([span(-5), span(null)]).toEqual(["0 s", "–"]);
});

test("every view has an address, and every address a view", () => {
  const id = "a".repeat(40);
  const routes: Route[] = [
    { page: "ring", node: null },
    { page: "ring", node: id },
    { page: "lookup", ask: null, step: null },
    { page: "lookup", ask: { kind: "key", text: "grün & blau?", from: id }, step: 2 },
    { page: "lookup", ask: { kind: "id", text: id, from: null }, step: null },
    { page: "figures" },
    { page: "events" },
    { page: "sandbox" },
  ];
  for (const route of routes) {
    const [path, search] = formatRoute(route).split("?");
    expect(parseRoute(path ?? "", search ?? "")).toEqual(route);
  }
  for (const path of ["", "nowhere", "nodes/xyz", "nodes/"]) {
    expect(parseRoute(path, "")).toEqual({ page: "ring", node: null });
  }
  expect(parseRoute("lookup", "key=a&step=-1&from=b")).toEqual({
    page: "lookup",
    ask: { kind: "key", text: "a", from: null },
    step: null,
  });
});

test("waits double up to ten seconds, spread by half", () => {
  expect([1, 2, 3, 99].map((attempt) => retryDelayMs(attempt, 1))).toEqual([500, 1000, 2000, 10_000]);
  expect(retryDelayMs(1, 0)).toBe(250);
});

test("the picture is old only after a while without the gateway", () => {
  const broken = { kind: "reconnecting", heardAt: 1000, attempt: 1, retryAt: 0 } as const;
  expect(staleSince(broken, 2000)).toBeNull();
  expect(staleSince(broken, 9000)).toBe(1000);
  expect(staleSince({ ...broken, heardAt: null }, 9000)).toBeNull();
  expect(staleSince({ kind: "live" }, 9000)).toBeNull();
});

test("events come together by number, each once, and the oldest are dropped", () => {
  const event = (number: number) => ({ number, kind: "join" }) as RingEvent;
  const numbers = (list: RingEvent[]) => list.map((it) => it.number);
  expect(numbers(merged([event(1), event(2)], [event(3)]))).toEqual([1, 2, 3]);
  expect(numbers(merged([event(2), event(3)], [event(1), event(2)]))).toEqual([1, 2, 3]);
  const many = merged(
    Array.from({ length: 1000 }, (_, at) => event(at + 1)),
    [event(1001)],
  );
  expect([many.length, many[0]?.number, many.at(-1)?.number]).toEqual([1000, 2, 1001]);
});

test("kinds that are new are shown as they are", () => {
  expect(kindOf({ kind: "stale" }).tone).toBe("warning");
  expect(kindOf({ kind: "eclipse" }).label).toBe("eclipse");
});
