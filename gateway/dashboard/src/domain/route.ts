/** What the address bar says. Every view has an address of its own, so that it can be shared. */
import type { Id } from "../api/schema";

export type Route =
  | { page: "ring"; node: Id | null }
  | { page: "lookup"; ask: Ask | null; step: number | null }
  | { page: "figures" }
  | { page: "events" }
  | { page: "sandbox" };

/** A question: where is this key (or this point), asked from that node (`null`: any)? */
export interface Ask {
  kind: "key" | "id";
  text: string;
  from: Id | null;
}

const ID = /^[0-9a-f]{40}$/;

/** `path` is below the base path, without a leading `/`. An address that is none of ours shows the ring. */
export function parseRoute(path: string, search: string): Route {
  const [page, rest] = path.split("/");
  const query = new URLSearchParams(search);
  switch (page) {
    case "nodes":
      return { page: "ring", node: rest && ID.test(rest) ? rest : null };
    case "lookup": {
      const kind = query.has("id") ? "id" : "key";
      const text = query.get(kind);
      const from = query.get("from");
      const step = query.get("step");
      const ask: Ask | null = text ? { kind, text, from: from && ID.test(from) ? from : null } : null;
      return { page, ask, step: step !== null && /^\d{1,3}$/.test(step) ? Number(step) : null };
    }
    case "figures":
    case "events":
    case "sandbox":
      return { page };
    default:
      return { page: "ring", node: null };
  }
}

/** Below the base path, without a leading `/`. */
export function formatRoute(route: Route): string {
  switch (route.page) {
    case "ring":
      return route.node ? `nodes/${route.node}` : "";
    case "lookup": {
      const query = new URLSearchParams();
      if (route.ask) {
        query.set(route.ask.kind, route.ask.text);
        if (route.ask.from) {
          query.set("from", route.ask.from);
        }
        if (route.step !== null) {
          query.set("step", String(route.step));
        }
      }
      return `lookup${query.size > 0 ? `?${query}` : ""}`;
    }
    default:
      return route.page;
  }
}
