import { expect, test } from "vitest";
import type { Frame, LogEntry, SandboxNode } from "../api/sandbox";
import { SIZE, toId } from "./id";
import { isThere, LESSONS, owedBy } from "./lessons";
import { lookOf, seatsOf } from "./ring";
import { flown, logged, ringOfFrame, seenFlights } from "./sandbox";

function frameOf(count: number): Frame {
  const node = (place: number): SandboxNode => ({
    node: place,
    name: `n${place}`,
    id: toId((SIZE / BigInt(count)) * BigInt(place)),
    state: "Serving",
    up: true,
    predecessor: (place + count - 1) % count,
    successors: [(place + 1) % count],
    fingers: [],
    keysLeader: 2,
    keysReplica: 6,
    shardsMoving: 0,
    keysSent: 0,
    keysReceived: 0,
  });
  const nodes = Array.from({ length: count }, (_, place) => node(place));
  const rest = { speed: 1, ideal: true, replicationFactor: 3, cut: [], flights: [], log: [], expiresInMs: 1 };
  return { type: "world", world: 1, nowMs: 0, nodes, ...rest };
}

test("a world is drawn as a ring: arcs cover the circle, and who stopped is lost and owns nothing", () => {
  const frame = frameOf(4);
  const ring = ringOfFrame(frame);
  expect(seatsOf(ring.nodes).reduce((sum, seat) => sum + seat.span, 0)).toBeCloseTo(1);
  expect(ring.stats.keys).toBe(8);
  const stopped = { ...(frame.nodes[1] as SandboxNode), up: false, state: "Unknown" as const, predecessor: null };
  const broken = ringOfFrame({ ...frame, nodes: frame.nodes.map((node) => (node.node === 1 ? stopped : node)) });
  const lost = broken.nodes.find((node) => node.name === "n1");
  expect(lost && [lookOf(lost), lost.ownedShare]).toEqual(["lost", 0]);
});

test("messages fly from their sender to their receiver, and the same one is seen once", () => {
  const flight = { from: 0, to: 1, title: "seal", sentMs: 100, arrivesMs: 140 };
  expect([90, 100, 120, 140, 999].map((now) => flown(flight, now))).toEqual([0, 0, 0.5, 1, 1]);
  expect(seenFlights([flight, { ...flight, arrivesMs: 150 }, { ...flight, to: 2 }]).size).toBe(2);
});

test("the log leaves out routine unless it is wanted, and says nothing twice", () => {
  const entry = (number: number, title: string, text: string): LogEntry => ({
    number,
    atMs: 0,
    node: 0,
    to: 1,
    title,
    text,
  });
  const more = [entry(1, "join", "a"), entry(2, "stabilize", "b"), entry(3, "join", "a")];
  expect(logged([], more, false).map((it) => it.number)).toEqual([1]);
  expect(logged([], more, true).map((it) => it.number)).toEqual([1, 2]);
  const old = logged([], more, true);
  expect(logged(old, [entry(4, "join", "a")], true)).toBe(old);
});

test("lessons begin with a ring, and mean nodes that are there", () => {
  for (const { steps, id } of LESSONS) {
    expect(steps[0]?.commands(frameOf(1))[0]?.type, id).toBe("reset");
    for (const step of steps) {
      for (const command of step.commands(frameOf(6))) {
        const nodes = "node" in command ? [command.node] : command.type === "cut" ? command.nodes : [];
        expect(
          nodes.every((node) => node >= 0 && node < 6),
          `${id}: ${step.action}`,
        ).toBe(true);
      }
    }
  }
  expect(new Set(LESSONS.map((lesson) => lesson.id)).size).toBe(LESSONS.length);
});

test("a step waits for the keys that the one before writes, in the new world and not in the old one", () => {
  const before = frameOf(5);
  const owed = owedBy(
    [
      { type: "reset", nodes: 5 },
      { type: "fill", keys: 10 },
    ],
    before,
  );
  expect(isThere(owed, before)).toBe(false);
  expect(isThere(owed, { ...before, world: 2, nodes: before.nodes.slice(1) })).toBe(false);
  expect(isThere(owed, { ...before, world: 2 })).toBe(true);
  expect(isThere(owedBy([{ type: "get", key: "a" }], before), before)).toBe(true);
});
