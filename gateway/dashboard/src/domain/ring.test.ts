import { describe, expect, test } from "vitest";
import type { Delta, Node, Ring, Snapshot } from "../api/schema";
import { changed, example, ringOf } from "../testing/samples";
import { applied, arcOf, lookOf, neighbour, replicaSet, seatAt, seatsOf, shortNames } from "./ring";

describe("a member's look", () => {
  const [node] = ringOf(3).nodes as [Node];
  test("follows its state", () => {
    const looks = (["Serving", "Joining", "Leaving", "Empty", "Unknown"] as const).map((state) =>
      lookOf({ ...node, state }),
    );
    expect(looks).toEqual(["serving", "joining", "leaving", "waiting", "waiting"]);
  });
  test("tells whom nobody reaches from whom only the gateway does not hear", () => {
    expect(lookOf({ ...node, reachable: false })).toBe("suspect");
    expect(lookOf({ ...node, staleSince: 1 })).toBe("unheard");
    expect(lookOf({ ...node, staleSince: 1, reachable: false })).toBe("lost");
  });
  test("is joining before it was ever heard", () => {
    expect(lookOf({ ...node, state: "Joining", staleSince: 1, stats: null })).toBe("joining");
  });
  test("of the gateway's example", () => {
    expect(example<Ring>("ring").nodes.map(lookOf)).toEqual(["serving", "serving", "lost", "joining"]);
  });
});

describe("a delta", () => {
  const snapshot = example<Snapshot>("snapshot");
  const delta = example<Delta>("delta");
  test("of the gateway's examples follows the snapshot: nodes replaced and removed, the rest kept", () => {
    const ring = applied(snapshot.ring, delta) as Ring;
    expect(ring.sequence).toBe(snapshot.sequence + 1);
    expect(ring.stats).toEqual(delta.stats);
    expect(ring.nodes.map((node) => node.name)).toEqual(["demo-node-0", "demo-node-2", "demo-node-1"]);
    expect(ring.name).toBe(snapshot.ring.name);
  });
  test("keeps the order of the circle when a member comes in between", () => {
    const ring = ringOf(4);
    const id = `2${"0".repeat(39)}`;
    const newcomer = changed(ring.nodes[0] as Node, { id, name: "new" });
    const { nodes } = applied(ring, { ...delta, sequence: 2, nodes: [newcomer], removed: [] }) as Ring;
    expect(nodes.map((node) => node.name)).toEqual(["demo-node-0", "new", "demo-node-1", "demo-node-2", "demo-node-3"]);
  });
  test("that leaves a gap or comes twice is refused", () => {
    expect(applied(snapshot.ring, { ...delta, sequence: snapshot.sequence + 2 })).toBeNull();
    expect(applied(snapshot.ring, { ...delta, sequence: snapshot.sequence })).toBeNull();
  });
});

describe("a place on the circle means", () => {
  const seats = seatsOf(ringOf(4).nodes);
  const at = (turn: number, reach = 0.02) => seatAt(seats, turn, reach)?.node.name;
  test("the member that owns it", () => {
    expect(at(0.1)).toBe("demo-node-1");
    expect(at(0.25)).toBe("demo-node-1");
    // The arc of the first member ends at zero and begins before it.
    expect(at(0.9)).toBe("demo-node-0");
  });
  test("the member whose sign is near, even just past it", () => {
    expect(at(0.26)).toBe("demo-node-1");
    expect(at(0.01)).toBe("demo-node-0");
    expect(at(0.03)).toBe("demo-node-1");
  });
  test("nothing in an empty ring, and always the same in a ring of one", () => {
    expect(seatAt([], 0.5, 0.1)).toBeNull();
    const alone = seatsOf(ringOf(1).nodes);
    expect([0, 0.3, 0.99].map((turn) => seatAt(alone, turn, 0.01)?.node.name)).toEqual(Array(3).fill("demo-node-0"));
  });
});

test("arcs end at their member and cover the circle once", () => {
  const arcs = seatsOf(ringOf(7).nodes).map(arcOf);
  expect(arcs.reduce((sum, arc) => sum + arc.span, 0)).toBeCloseTo(1);
  expect(arcs[0]?.start).toBeCloseTo(-1 / 7);
  for (const [at, arc] of arcs.slice(1).entries()) {
    const before = arcs[at];
    expect((before?.start ?? 0) + (before?.span ?? 0)).toBeCloseTo(arc.start);
  }
});

test("stepping goes round, and begins at either end", () => {
  const { nodes } = ringOf(3);
  const names = (from: string | null, step: 1 | -1) =>
    nodes.find((node) => node.id === neighbour(nodes, from, step))?.name;
  expect(names(nodes[2]?.id ?? "", 1)).toBe("demo-node-0");
  expect(names(nodes[0]?.id ?? "", -1)).toBe("demo-node-2");
  expect([names(null, 1), names(null, -1)]).toEqual(["demo-node-0", "demo-node-2"]);
  expect(neighbour([], null, 1)).toBeNull();
});

test("copies are kept by the member and its next ones, each once, itself not twice", () => {
  const [node] = ringOf(5).nodes as [Node];
  expect(replicaSet(node, 3)).toEqual([node.id, ...node.successors.slice(0, 2)]);
  const [of2] = ringOf(2).nodes as [Node];
  expect(replicaSet(of2, 3)).toEqual([of2.id, of2.successors[0]]);
  expect(replicaSet({ ...node, successors: [] }, 3)).toEqual([node.id]);
});

test("short names leave out what all share, up to a dash", () => {
  const short = (...names: string[]) => [...shortNames(names).values()];
  expect(short("demo-node-1", "demo-node-12", "demo-node-13")).toEqual(["1", "12", "13"]);
  expect(short("alpha", "beta")).toEqual(["alpha", "beta"]);
  expect(short("demo-node-0")).toEqual(["demo-node-0"]);
  expect(short("a-", "a-b")).toEqual(["a-", "b"]);
  expect(short()).toEqual([]);
});
