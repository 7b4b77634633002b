import type { Id, Node } from "../../api/schema";
import { arcLine, place, wrap } from "../../domain/geometry";
import type { Posed } from "../../domain/motion";
import { replicaSet } from "../../domain/ring";
import type { View } from "../../domain/view";
import { Chord } from "./chord";

interface Props {
  node: Node;
  posed: readonly Posed[];
  view: View;
  replicationFactor: number;
  /** Targets of its fingers. */
  fingers: readonly Id[];
  /** The finger's target that is pointed at in the list. */
  marked: Id | null;
}

/** What one member knows: next and previous one, fingers, and who keeps copies of its keys. */
export function NodeOverlay({ node, posed, view, replicationFactor, fingers, marked }: Props) {
  const turns = new Map(posed.map((seat) => [seat.node.id, seat.turn]));
  const from = turns.get(node.id);
  if (from === undefined) {
    return null;
  }
  const inner = view.radius - view.band / 2 - 3;
  const successor = node.successors[0];
  const line = (id: Id | null | undefined, props: Omit<Parameters<typeof Chord>[0], "from" | "to" | "radius">) => {
    const to = id === null || id === undefined || id === node.id ? undefined : turns.get(id);
    return to === undefined ? null : <Chord key={id} from={from} to={to} radius={inner} {...props} />;
  };
  return (
    <g data-overlay="node">
      {[...new Set(fingers)].map((id) =>
        line(id, {
          colour: id === marked ? "var(--joining)" : "var(--soft)",
          width: id === marked ? 2.5 : 1.1,
          opacity: id === marked ? 1 : 0.6,
        }),
      )}
      {node.predecessor !== successor && line(node.predecessor, { colour: "var(--soft)", width: 1.5, dash: "2 4" })}
      {line(successor, { colour: "var(--ink)", width: 2.25 })}
      <Copies ids={replicaSet(node, replicationFactor)} turns={turns} view={view} />
    </g>
  );
}

/** A bracket outside of the circle over those that keep the keys of a member's arc. */
function Copies({ ids, turns, view }: { ids: readonly Id[]; turns: ReadonlyMap<Id, number>; view: View }) {
  const known = ids.flatMap((id) => turns.get(id) ?? []);
  const [first, last] = [known[0], known.at(-1)];
  if (first === undefined || last === undefined || known.length < 2) {
    return null;
  }
  const lane = view.radius + view.band / 2 + 8;
  return (
    <g stroke="var(--serving)" fill="none" strokeWidth={2}>
      <path d={arcLine({ start: first, span: wrap(last - first) }, lane)} opacity={0.55} />
      {known.map((turn, at) => {
        const { x, y } = place(turn, lane);
        return <circle key={turn} cx={x} cy={y} r={3.5} fill={at === 0 ? "var(--serving)" : "var(--paper)"} />;
      })}
    </g>
  );
}
