/** The line on which the gateway tells what changes. It comes back by itself, and goes on where it was. */
import { type Connection, retryDelayMs, SILENCE_MAX_MS } from "../domain/connection";
import type { ServerMessage } from "./schema";

export interface Listener {
  /** `false`: it does not follow what came before; the stream then begins anew with a snapshot. */
  message(message: ServerMessage): boolean;
  connection(connection: Connection): void;
  /** From where to go on; `null`: from the start. */
  place(): { stream: string; sequence: number } | null;
}

/** What is used of a `WebSocket`. */
export type Socket = Pick<WebSocket, "onopen" | "onmessage" | "onclose" | "close">;

export class Stream {
  #socket: Socket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #heardAt: number | null = null;

  constructor(
    private readonly url: string,
    private readonly listener: Listener,
    private readonly open: (url: string) => Socket = (url) => new WebSocket(url),
  ) {}

  start(): void {
    this.listener.connection({ kind: "connecting" });
    this.#connect(this.listener.place());
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#drop();
  }

  /** Now rather than later: the network is back, or somebody looks again. */
  hurry(): void {
    if (!this.#socket) {
      this.#connect(this.listener.place());
    }
  }

  #connect(place: { stream: string; sequence: number } | null): void {
    clearTimeout(this.#timer);
    const url = new URL(this.url);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (place) {
      url.search = new URLSearchParams({ stream: place.stream, sequence: String(place.sequence) }).toString();
    }
    const socket = this.open(url.href);
    this.#socket = socket;
    // Who goes on is told at once what it missed, and nothing when it missed nothing.
    socket.onopen = () => place && this.#isLive();
    socket.onmessage = ({ data }) => this.#heard(data);
    socket.onclose = () => this.#lost();
    this.#watch();
  }

  #heard(data: unknown): void {
    const message = parse(data);
    if (!message || !this.listener.message(message)) {
      // Not what was agreed on, or a gap. It has never been seen; a snapshot puts it right.
      this.#drop();
      this.#connect(null);
      return;
    }
    this.#isLive();
  }

  #isLive(): void {
    this.#heardAt = Date.now();
    this.#attempt = 0;
    this.listener.connection({ kind: "live" });
    this.#watch();
  }

  /** A line that is cut somewhere on its way stays open here, silent. */
  #watch(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#drop();
      this.#lost();
    }, SILENCE_MAX_MS);
  }

  #lost(): void {
    this.#socket = null;
    clearTimeout(this.#timer);
    this.#attempt += 1;
    const delay = retryDelayMs(this.#attempt, Math.random());
    const [heardAt, attempt, retryAt] = [this.#heardAt, this.#attempt, Date.now() + delay];
    this.listener.connection({ kind: "reconnecting", heardAt, attempt, retryAt });
    this.#timer = setTimeout(() => this.#connect(this.listener.place()), delay);
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = null;
      socket.onmessage = null;
      socket.onclose = null;
      socket.close();
    }
  }
}

function parse(data: unknown): ServerMessage | null {
  try {
    const message = JSON.parse(String(data)) as ServerMessage;
    return message?.type === "snapshot" || message?.type === "delta" ? message : null;
  } catch {
    return null;
  }
}
