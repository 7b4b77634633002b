/** A ring of real node processes on loopback, with a gateway. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** `chordctl dev` gives each node ten ports. */
const PORTS_PER_NODE = 10;

export class Processes {
  readonly url: string;
  readonly #dir = mkdtempSync(join(tmpdir(), "chord-dashboard-"));
  readonly #children: ChildProcess[] = [];

  private constructor(
    private readonly bin: string,
    private readonly nodes: number,
    private readonly base: number,
    gateway: number,
  ) {
    this.url = `http://127.0.0.1:${gateway}/`;
  }

  static async start(bin: string, nodes: number): Promise<Processes> {
    const base = await freePorts((nodes + 3) * PORTS_PER_NODE);
    const gateway = base + (nodes + 2) * PORTS_PER_NODE;
    const ring = new Processes(bin, nodes, base, gateway);
    const ports = ["--base-port", String(base), "--gateway-port", String(gateway)];
    ring.#spawn("chordctl", ["dev", "--nodes", String(nodes), "--data-dir", ring.#dir, "--bin-dir", bin, ...ports]);
    await until("the gateway shows all nodes converged", async () => {
      const answer = await fetch(`${ring.url}api/v1/stats`);
      const stats = (await answer.json()) as { serving: number; converged: boolean };
      return stats.serving === nodes && stats.converged;
    }).catch((error) => {
      throw new Error(`${error}\n${ring.logs()}`);
    });
    return ring;
  }

  address(node: number, port: number): string {
    return `127.0.0.1:${this.base + node * PORTS_PER_NODE + port}`;
  }

  /** One more node, which leaves the ring when it is told to end. */
  join(name: string): ChildProcess {
    const own = (port: number) => this.address(this.nodes, port);
    const peers = Array.from({ length: this.nodes }, (_, node) => this.address(node, 0)).join(",");
    return this.#spawn("chord-node", [
      ...["--name", name, "--ring-name", "dev", "--namespace", "default", "--data-dir", join(this.#dir, name)],
      ...["--internal-addr", own(0), "--client-addr", own(1), "--http-addr", own(2)],
      ...["--advertise-internal", own(0), "--advertise-client", own(1), "--join", peers],
      ...["--on-sigterm", "leave", "--log-format", "text"],
    ]);
  }

  /** Operations until the other end stops it, or `keys` each once. */
  load(keys: number, ...more: string[]): ChildProcess {
    const journal = join(this.#dir, `load-${this.#children.length}.journal`);
    const what = ["load", "--keys", String(keys), "--value-size", "256", "--concurrency", "8", "--journal", journal];
    return this.#spawn("chordctl", ["--endpoint", this.address(0, 1), ...what, ...more]);
  }

  /** Ends all, and leaves nothing behind. */
  async stop(): Promise<void> {
    for (const child of [...this.#children].reverse()) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGTERM");
        await ended(child);
      }
    }
    rmSync(this.#dir, { recursive: true, force: true });
  }

  logs(): string {
    const files = readdirSync(this.#dir).filter((name) => name.endsWith(".log"));
    return files.map((name) => `--- ${name}\n${readFileSync(join(this.#dir, name), "utf8").slice(-2000)}`).join("\n");
  }

  #spawn(program: string, args: string[]): ChildProcess {
    const child = spawn(join(this.bin, program), args, { stdio: "ignore" });
    this.#children.push(child);
    return child;
  }
}

/** Exit code; `null` when it took a signal. */
export async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    await once(child, "exit");
  }
  return child.exitCode;
}

/** Polls until something is so; a failure to ask is a no. */
export async function until(what: string, isSo: () => Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!(await isSo().catch(() => false))) {
    if (Date.now() > end) {
      throw new Error(`not within ${timeoutMs / 1000} s: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** A run of ports that nobody listens on. */
async function freePorts(count: number): Promise<number> {
  const isFree = (port: number) =>
    new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
  for (let base = 21_000; base < 31_000; base += count) {
    const free = await Promise.all(Array.from({ length: count }, (_, at) => isFree(base + at)));
    if (free.every(Boolean)) {
      return base;
    }
  }
  throw new Error("no run of free ports between 21000 and 31000");
}
