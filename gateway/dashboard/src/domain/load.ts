/** How evenly members are loaded. */
import type { Node } from "../api/schema";
import { type Look, lookOf } from "./ring";

export interface Bar {
  id: string;
  name: string;
  look: Look;
  keys: number;
  /** Keys led over the mean of the Serving members; `null`: there are none. */
  ofMean: number | null;
}

/** Members that told their figures, in the order of the circle; and the mean they are held against. */
export function loadBars(nodes: readonly Node[]): { bars: Bar[]; mean: number | null } {
  const told = nodes.filter((node) => node.stats !== null);
  const serving = told.filter((node) => node.state === "Serving");
  const sum = serving.reduce((all, node) => all + (node.stats?.keysLeader ?? 0), 0);
  const mean = sum > 0 ? sum / serving.length : null;
  const bars = told.map((node) => {
    const keys = node.stats?.keysLeader ?? 0;
    return { id: node.id, name: node.name, look: lookOf(node), keys, ofMean: mean && keys / mean };
  });
  return { bars, mean };
}
