/** A line to the page that a test holds in place of a gateway. */
import type { Page, WebSocketRoute } from "@playwright/test";
import type { Delta, Node, OperatorStatus, Ring, Snapshot } from "../src/api/schema";

/** The gateway's end of the page's WebSockets. */
export class Line {
  readonly opened: WebSocketRoute[] = [];
  refuse = false;
  #ring: Ring;

  constructor(ring: Ring) {
    this.#ring = ring;
  }

  async attach(page: Page): Promise<void> {
    await page.routeWebSocket(/\/api\/v1\/ws/, (socket) => {
      if (this.refuse) {
        void socket.close({ code: 1001 });
        return;
      }
      this.opened.push(socket);
      if (!socket.url().includes(`sequence=${this.#ring.sequence}`)) {
        this.snapshot();
      }
    });
  }

  snapshot(): void {
    const message: Snapshot = { type: "snapshot", sequence: this.#ring.sequence, ring: this.#ring };
    this.opened.at(-1)?.send(JSON.stringify(message));
  }

  /** The ring becomes these members, half a second later. */
  change(nodes: Node[], events: Delta["events"] = [], operator?: OperatorStatus): void {
    const before = new Map(this.#ring.nodes.map((node) => [node.id, node]));
    const sequence = this.#ring.sequence + 1;
    const generatedAt = this.#ring.generatedAt + 500;
    const removed = [...before.keys()].filter((id) => !nodes.some((node) => node.id === id));
    const stats = { ...this.#ring.stats, nodes: nodes.length };
    this.#ring = { ...this.#ring, sequence, generatedAt, nodes, stats };
    const more = nodes.filter((node) => before.get(node.id) !== node);
    const said = operator ? { operator } : {};
    const delta: Delta = {
      type: "delta",
      sequence,
      generatedAt,
      converged: true,
      nodes: more,
      removed,
      stats,
      ...said,
      events,
    };
    this.opened.at(-1)?.send(JSON.stringify(delta));
  }

  get nodes(): Node[] {
    return this.#ring.nodes;
  }
}

export async function before(page: Page, ring: Ring): Promise<Line> {
  const line = new Line(ring);
  await line.attach(page);
  await page.goto("");
  return line;
}
