import { type FormEvent, useState } from "react";
import type { Command, Frame } from "../../api/sandbox";
import { count } from "../../domain/format";
import { Row, Section } from "../parts/figure";

const SPEEDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 4];

/** Time in the sandbox. */
export function Clock({ frame, send }: { frame: Frame; send: (command: Command) => void }) {
  const [speed, setSpeed] = useState(1);
  const shown = frame.speed > 0 ? frame.speed : speed;
  const runs = frame.speed > 0;
  const set = (factor: number) => {
    setSpeed(factor);
    send({ type: "speed", factor });
  };
  return (
    <fieldset aria-label="Time" className="flex flex-wrap items-center gap-1.5">
      <button
        type="button"
        className="button button-strong"
        onClick={() => send({ type: "speed", factor: runs ? 0 : shown })}
      >
        {runs ? "Pause" : "Run"}
      </button>
      <button type="button" className="button" onClick={() => send({ type: "step" })}>
        Step
      </button>
      <select
        className="button"
        value={shown}
        onChange={(event) => set(Number(event.target.value))}
        aria-label="Speed of time"
      >
        {[...new Set([...SPEEDS, shown])]
          .sort((a, b) => a - b)
          .map((value) => (
            <option key={value} value={value}>
              {value} ×
            </option>
          ))}
      </select>
      <button type="button" className="button ml-3" onClick={() => send({ type: "add" })}>
        Add a node
      </button>
      <button type="button" className="button" onClick={() => send({ type: "fill", keys: 20 })}>
        Write 20 keys
      </button>
      {frame.cut.length > 0 && (
        <button type="button" className="button" onClick={() => send({ type: "heal" })}>
          Heal the network
        </button>
      )}
      <span className="ml-auto text-[0.8125rem] text-soft">{(frame.nowMs / 1000).toFixed(2)} s</span>
    </fieldset>
  );
}

/** What can be done with one node. */
export function NodeControls({ frame, id, send }: { frame: Frame; id: string; send: (command: Command) => void }) {
  const node = frame.nodes.find((one) => one.id === id);
  if (!node) {
    return null;
  }
  const { up, name, node: number } = node;
  const isCut = frame.cut.includes(number);
  const cut = isCut ? frame.cut.filter((one) => one !== number) : [...frame.cut, number];
  return (
    <Section title={`Node ${name}`} aside={up ? node.state : "stopped"}>
      <div className="flex flex-wrap gap-1.5">
        {up ? (
          <>
            <button type="button" className="button" onClick={() => send({ type: "fail", node: number })}>
              Stop it at once
            </button>
            <button type="button" className="button" onClick={() => send({ type: "leave", node: number })}>
              Let it leave
            </button>
          </>
        ) : (
          <button type="button" className="button" onClick={() => send({ type: "revive", node: number })}>
            Start it again
          </button>
        )}
        <button
          type="button"
          className="button"
          onClick={() => send(cut.length > 0 ? { type: "cut", nodes: cut } : { type: "heal" })}
        >
          {isCut ? "Connect it again" : "Cut it off"}
        </button>
      </div>
      <dl className="mt-2">
        <Row name="Keys">
          leads {count(node.keysLeader)}, keeps {count(node.keysReplica)}
        </Row>
        <Row name="Successors">{names(frame, node.successors)}</Row>
        <Row name="Predecessor">{node.predecessor === null ? "–" : names(frame, [node.predecessor])}</Row>
        <Row name="Fingers point to">{names(frame, node.fingers)}</Row>
      </dl>
    </Section>
  );
}

function names(frame: Frame, nodes: readonly number[]): string {
  return nodes.map((node) => frame.nodes.find((one) => one.node === node)?.name ?? "gone").join(", ") || "–";
}

/** Keys, as a client writes and reads them. */
export function Keys({ frame, from, send }: { frame: Frame; from: number | null; send: (command: Command) => void }) {
  const [key, setKey] = useState("colour");
  const [value, setValue] = useState("green");
  const put = (event: FormEvent) => {
    event.preventDefault();
    send({ type: "put", key, value });
  };
  const start = from ?? frame.nodes.find((node) => node.up)?.node ?? 0;
  return (
    <Section title="Keys">
      <form onSubmit={put} className="space-y-2">
        <div className="grid grid-cols-2 gap-2">
          <label className="label">
            Key
            <input
              className="field mt-1"
              value={key}
              maxLength={64}
              required
              onChange={(event) => setKey(event.target.value)}
            />
          </label>
          <label className="label">
            Value
            <input
              className="field mt-1"
              value={value}
              maxLength={200}
              onChange={(event) => setValue(event.target.value)}
            />
          </label>
        </div>
        <div className="flex flex-wrap gap-1.5">
          <button type="submit" className="button">
            Write
          </button>
          <button type="button" className="button" disabled={key === ""} onClick={() => send({ type: "get", key })}>
            Read
          </button>
          <button
            type="button"
            className="button"
            disabled={key === ""}
            onClick={() => send({ type: "lookup", node: start, key })}
          >
            Look up from {names(frame, [start])}
          </button>
        </div>
      </form>
    </Section>
  );
}
