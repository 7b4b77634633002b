import { type FormEvent, useEffect, useState } from "react";
import type { Id, Node } from "../../api/schema";
import { idAtTurn, parseId, toId } from "../../domain/id";
import type { Ask } from "../../domain/route";

interface Props {
  ask: Ask | null;
  nodes: readonly Node[];
  from: Id | null;
  onFrom: (from: Id | null) => void;
  onAsk: (ask: Ask) => void;
}

const KEY_BYTES_MAX = 1024;

/** Says what is wrong with a question; `null`: nothing. */
function fault(kind: Ask["kind"], text: string): string | null {
  if (kind === "id") {
    return parseId(text) === null ? "An identifier is 1 to 40 hexadecimal digits, for example 2cf24d." : null;
  }
  const bytes = new TextEncoder().encode(text).length;
  return bytes === 0
    ? "Give a key."
    : bytes > KEY_BYTES_MAX
      ? `A key has at most ${KEY_BYTES_MAX} bytes; this has ${bytes}.`
      : null;
}

export function LookupForm({ ask, nodes, from, onFrom, onAsk }: Props) {
  const [kind, setKind] = useState<Ask["kind"]>(ask?.kind ?? "key");
  const [text, setText] = useState(ask?.text ?? "");
  const [wrong, setWrong] = useState<string | null>(null);
  useEffect(() => {
    if (ask) {
      setKind(ask.kind);
      setText(ask.text);
    }
  }, [ask]);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const problem = fault(kind, text);
    setWrong(problem);
    if (problem === null) {
      onAsk({ kind, text: kind === "id" ? toId(parseId(text) ?? 0n) : text, from });
    }
  };
  const anywhere = () => {
    setWrong(null);
    onAsk({ kind: "id", text: idAtTurn(Math.random()), from });
  };
  return (
    <form onSubmit={submit} className="space-y-3" aria-label="Lookup">
      <div>
        <div className="mb-1 flex items-baseline justify-between">
          <label htmlFor="target" className="label">
            {kind === "key" ? "Key" : "Identifier, hexadecimal"}
          </label>
          <button
            type="button"
            className="label underline decoration-line underline-offset-4 hover:text-ink"
            onClick={() => setKind(kind === "key" ? "id" : "key")}
          >
            {kind === "key" ? "look for an identifier instead" : "look for a key instead"}
          </button>
        </div>
        <input
          id="target"
          className={`field ${kind === "id" ? "font-mono text-[0.8125rem]" : ""}`}
          value={text}
          onChange={(event) => setText(event.target.value)}
          aria-invalid={wrong !== null}
          aria-describedby={wrong === null ? undefined : "target-wrong"}
          placeholder={kind === "key" ? "any key, whether it is stored or not" : "2cf24d"}
          autoComplete="off"
          spellCheck={false}
        />
        {wrong && (
          <p id="target-wrong" role="alert" className="mt-1 text-[0.8125rem] text-lost">
            {wrong}
          </p>
        )}
      </div>
      <div>
        <label htmlFor="from" className="label mb-1 block">
          Asked at (or click on a member)
        </label>
        <select id="from" className="field" value={from ?? ""} onChange={(event) => onFrom(event.target.value || null)}>
          <option value="">any member</option>
          {nodes.map((node) => (
            <option key={node.id} value={node.id}>
              {node.name}
              {node.staleSince === null ? "" : " (does not answer)"}
            </option>
          ))}
        </select>
      </div>
      <div className="flex gap-2">
        <button type="submit" className="button button-strong grow">
          Look up
        </button>
        <button type="button" className="button" onClick={anywhere}>
          Random place
        </button>
      </div>
    </form>
  );
}
