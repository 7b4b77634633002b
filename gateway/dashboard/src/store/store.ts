/** What the page knows, in one place; views read it with `useRing`. */
import type { Api } from "../api/rest";
import type { Id, Node, Ring, RingEvent, ServerMessage } from "../api/schema";
import type { Listener } from "../api/stream";
import type { Connection } from "../domain/connection";
import { merged } from "../domain/events";
import { History } from "../domain/history";
import { applied } from "../domain/ring";

/** Never changed in place, `history` apart, which grows with every new state. */
export interface State {
  connection: Connection;
  /** `null`: nothing was heard yet. */
  ring: Ring | null;
  byId: ReadonlyMap<Id, Node>;
  history: History;
  /** By number. */
  events: readonly RingEvent[];
}

export class Store implements Listener {
  #state: State = {
    connection: { kind: "connecting" },
    ring: null,
    byId: new Map(),
    history: new History(),
    events: [],
  };
  readonly #watchers = new Set<() => void>();

  constructor(private readonly api: Pick<Api, "events">) {}

  get = (): State => this.#state;

  subscribe = (watcher: () => void): (() => void) => {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  };

  connection(connection: Connection): void {
    if (connection.kind !== "live" || this.#state.connection.kind !== "live") {
      this.#set({ connection });
    }
  }

  place(): { stream: string; sequence: number } | null {
    const { ring } = this.#state;
    return ring && { stream: ring.stream, sequence: ring.sequence };
  }

  message(message: ServerMessage): boolean {
    const { ring: before, events } = this.#state;
    if (message.type === "delta") {
      const ring = before && applied(before, message);
      if (!ring) {
        return false;
      }
      this.#show(ring, message.events.length > 0 ? merged(events, message.events) : events);
      return true;
    }
    const { ring } = message;
    const goesOn = before?.stream === ring.stream && before.ringId === ring.ringId;
    if (!goesOn) {
      this.#set({ history: new History() });
    }
    this.#show(ring, goesOn ? events : []);
    void this.#catchUp(ring.stream);
    return true;
  }

  /** A snapshot holds no events: those that led to it are asked for. */
  async #catchUp(stream: string): Promise<void> {
    try {
      const list = await this.api.events(this.#state.events.at(-1)?.number ?? 0);
      if (list.stream === stream && this.#state.ring?.stream === stream) {
        this.#set({ events: merged(list.events, this.#state.events) });
      }
    } catch {
      // The next snapshot asks again; that the gateway is not reached is shown already.
    }
  }

  #show(ring: Ring, events: readonly RingEvent[]): void {
    this.#state.history.take(ring);
    this.#set({ ring, byId: new Map(ring.nodes.map((node) => [node.id, node])), events });
  }

  #set(change: Partial<State>): void {
    this.#state = { ...this.#state, ...change };
    for (const watcher of this.#watchers) {
      watcher();
    }
  }
}
