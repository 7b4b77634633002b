import { expect, test } from "vitest";
import type { Node, NodeStats, Ring } from "../api/schema";
import { ringOf } from "../testing/samples";
import { flowsOf, History } from "./history";

const base = ringOf(3);
const [first] = base.nodes as [Node];

/** `seconds` later, with the first member's figures changed. */
function later(seconds: number, stats: Partial<NodeStats>, node: Partial<Node> = {}): Ring {
  const changed = { ...first, ...node, stats: { ...(first.stats as NodeStats), ...stats } };
  return { ...base, generatedAt: base.generatedAt + seconds * 1000, nodes: [changed, ...base.nodes.slice(1)] };
}

test("lines grow by a sample a second, and forget what is older than three minutes", () => {
  const history = new History();
  for (let half = 0; half < 1000; half += 1) {
    history.take(later(half / 2, { opsPerSecond: half }));
  }
  expect(history.whole).toHaveLength(180);
  const samples = history.of(first.id);
  expect(samples).toHaveLength(180);
  expect(samples.at(-1)?.ops).toBe(998);
  expect((samples.at(-1)?.at ?? 0) - (samples[0]?.at ?? 0)).toBe(179_000);
});

test("what is not heard leaves a gap", () => {
  const history = new History();
  history.take(later(0, { opsPerSecond: 5 }));
  history.take(later(1, { opsPerSecond: 5 }, { staleSince: 1 }));
  expect(history.of(first.id).map((sample) => sample.ops)).toEqual([5, null]);
});

test("keys that move are a flow per second, and a quick move is shown for a while", () => {
  const history = new History();
  const { keysReceived, keysSent } = first.stats as NodeStats;
  history.take(later(0, {}));
  history.take(later(2, { keysReceived: keysReceived + 100, keysSent: keysSent + 10, shardsMoving: 3 }));
  expect(history.flow(first.id)).toEqual({ received: 50, sent: 5, shards: 3 });
  const after = { keysReceived: keysReceived + 100, keysSent: keysSent + 10 };
  history.take(later(3, after));
  expect(history.flow(first.id).received).toBe(50);
  history.take(later(5, after));
  expect(history.flow(first.id)).toEqual({ received: 0, sent: 0, shards: 0 });
});

test("shards that change hands without keys are a flow, too; a restart is none", () => {
  const history = new History();
  history.take(later(0, { keysReceived: 1000 }));
  history.take(later(1, { keysReceived: 1000, shardsMoving: 2 }));
  expect(history.flow(first.id)).toEqual({ received: 0, sent: 0, shards: 2 });
  history.take(later(9, { keysReceived: 0 }));
  expect(history.flow(first.id)).toEqual({ received: 0, sent: 0, shards: 0 });
  history.take(later(10, { keysReceived: 20 }));
  expect(history.flow(first.id).received).toBe(20);
});

test("only who joins or leaves tells by its shards which way they go", () => {
  const shards = { received: 0, sent: 0, shards: 2 };
  expect(flowsOf(shards, "joining")).toEqual({ incoming: true, outgoing: false, unclear: false });
  expect(flowsOf(shards, "leaving")).toEqual({ incoming: false, outgoing: true, unclear: false });
  expect(flowsOf(shards, "serving")).toEqual({ incoming: false, outgoing: false, unclear: true });
  expect(flowsOf({ received: 1, sent: 1, shards: 2 }, "serving")).toEqual({
    incoming: true,
    outgoing: true,
    unclear: false,
  });
  expect(flowsOf({ ...shards, shards: 0 }, "serving")).toEqual({ incoming: false, outgoing: false, unclear: false });
});

test("members that left are forgotten", () => {
  const history = new History();
  history.take(base);
  history.take({ ...base, generatedAt: base.generatedAt + 1000, nodes: base.nodes.slice(1) });
  expect(history.of(first.id)).toEqual([]);
});
