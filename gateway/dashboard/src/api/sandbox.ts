/**
 * The line to a sandbox: a ring simulated in the gateway, for this page alone. It ends with the line, and nothing of
 * it touches the real ring. Kept in step with `gateway/src/sandbox/schema.rs`.
 */
import type { Id, MemberState } from "./schema";

/** Nodes are meant by their number. */
export type Command =
  | { type: "reset"; nodes: number }
  | { type: "add" }
  | { type: "fail" | "revive" | "leave"; node: number }
  | { type: "put"; key: string; value: string }
  | { type: "fill"; keys: number }
  | { type: "get"; key: string }
  | { type: "lookup"; node: number; key: string }
  /** Nothing passes between these nodes and the others. */
  | { type: "cut"; nodes: number[] }
  | { type: "heal" }
  /** Simulated seconds for each real one, 0 to 8. */
  | { type: "speed"; factor: number }
  /** On to the next thing worth an explanation. */
  | { type: "step" };

export interface Frame {
  type: "world";
  /** Counts the worlds of this line: another one begins with `reset`. */
  world: number;
  /** Simulated milliseconds. */
  nowMs: number;
  speed: number;
  ideal: boolean;
  replicationFactor: number;
  nodes: SandboxNode[];
  cut: number[];
  flights: Flight[];
  /** What is new since the last frame. */
  log: LogEntry[];
  expiresInMs: number;
}

export interface SandboxNode {
  node: number;
  name: string;
  id: Id;
  state: MemberState;
  /** Its process runs. */
  up: boolean;
  predecessor: number | null;
  successors: number[];
  fingers: number[];
  keysLeader: number;
  keysReplica: number;
  shardsMoving: number;
  keysSent: number;
  keysReceived: number;
}

export interface Flight {
  from: number;
  to: number;
  title: string;
  sentMs: number;
  arrivesMs: number;
}

export interface LogEntry {
  number: number;
  atMs: number;
  node: number | null;
  to: number | null;
  title: string;
  text: string;
}

export type LineState = { kind: "opening" } | { kind: "open" } | { kind: "ended"; reason: string };

type Socket = Pick<WebSocket, "onopen" | "onmessage" | "onclose" | "send" | "close">;

export class SandboxLine {
  readonly #socket: Socket;
  #open = false;
  #waiting: Command[] = [];

  constructor(
    url: string,
    on: { frame: (frame: Frame) => void; state: (state: LineState) => void },
    open: (url: string) => Socket = (url) => new WebSocket(url),
  ) {
    const address = new URL(url);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = open(address.href);
    this.#socket = socket;
    on.state({ kind: "opening" });
    socket.onopen = () => {
      this.#open = true;
      on.state({ kind: "open" });
      for (const command of this.#waiting.splice(0)) {
        this.send(command);
      }
    };
    socket.onmessage = ({ data }) => on.frame(JSON.parse(String(data)) as Frame);
    socket.onclose = ({ reason }) => {
      const never = "No sandbox is free just now, or the gateway offers none. Try again later.";
      on.state({ kind: "ended", reason: this.#open ? reason || "The line to the gateway broke." : never });
      this.#open = false;
    };
  }

  send(command: Command): void {
    if (this.#open) {
      this.#socket.send(JSON.stringify(command));
    } else {
      this.#waiting.push(command);
    }
  }

  end(): void {
    this.#socket.onclose = null;
    this.#socket.onmessage = null;
    this.#socket.close();
  }
}
