import { compact, percent, rate } from "../../domain/format";
import type { Flow } from "../../domain/history";
import type { Seat } from "../../domain/ring";
import { StateName } from "../parts/marker";

/** What the pointer is on. The same is said in the list of members and in a member's details. */
export function Hint({ seat, x, y, flow }: { seat: Seat; x: number; y: number; flow: Flow }) {
  const { node, look } = seat;
  return (
    <div
      aria-hidden="true"
      className="pointer-events-none absolute z-10 w-max max-w-64 rounded-md border border-line bg-panel px-3 py-2 text-[0.8125rem] shadow-sm"
      style={{ left: x, top: y, transform: `translate(${x > 300 ? "calc(-100% - 14px)" : "14px"}, -50%)` }}
    >
      <p className="font-semibold">{node.name}</p>
      <StateName look={look} />
      <p className="text-soft">
        {percent(node.ownedShare)} of the circle
        {node.stats && <>, {compact(node.stats.keysLeader)} keys led</>}
      </p>
      {flow.received > 0 && <p className="text-hop">{rate(flow.received)} keys/s come in</p>}
      {flow.sent > 0 && <p className="text-hop">{rate(flow.sent)} keys/s go out</p>}
      {flow.shards > 0 && <p className="text-hop">{compact(flow.shards)} shards change hands</p>}
    </div>
  );
}
