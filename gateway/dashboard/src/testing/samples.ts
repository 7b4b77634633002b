/** The gateway's own examples of its documents, and rings made up for tests. */
import { readFileSync } from "node:fs";
import type { Node, NodeStats, Ring } from "../api/schema";
import { SIZE, shareOf, toId } from "../domain/id";

export function example<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../../testdata/${name}.json`, import.meta.url), "utf8")) as T;
}

/** `count` members, evenly spread, all well. */
export function ringOf(count: number): Ring {
  const like = example<Ring>("ring");
  const stats = like.nodes[0]?.stats as NodeStats;
  const id = (place: number) => toId((SIZE / BigInt(count)) * BigInt(place));
  const nodes = Array.from({ length: count }, (_, place): Node => {
    const predecessor = id((place + count - 1) % count);
    const successors = Array.from({ length: Math.min(8, count) }, (_, step) => id((place + step + 1) % count));
    const name = `demo-node-${place}`;
    return {
      id: id(place),
      name,
      state: "Serving",
      reachable: true,
      staleSince: null,
      incarnation: 1,
      zone: "",
      clientAddr: "",
      predecessor,
      successors,
      ownedShare: shareOf(predecessor, id(place)),
      stats: { ...stats, shardsMoving: 0 },
      version: "1",
      uptimeMs: 1,
    };
  });
  return { ...like, sequence: 1, generatedAt: 1_000_000, nodes };
}

export function changed(node: Node, change: Partial<Node>): Node {
  return { ...node, ...change };
}
