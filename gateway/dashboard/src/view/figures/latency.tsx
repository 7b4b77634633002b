import type { Node } from "../../api/schema";
import { micros } from "../../domain/format";
import { useRing } from "../../store/context";
import { MemberLink } from "../node/panel";

const ROWS_MAX = 8;

/** From median to p99, for the slowest members. */
export function LatencyRows({ nodes }: { nodes: readonly Node[] }) {
  const { byId } = useRing();
  const rows = nodes
    .flatMap((node) => {
      const [p50, p99] = [node.stats?.latencyP50Us ?? null, node.stats?.latencyP99Us ?? null];
      return node.staleSince === null && p50 !== null && p99 !== null ? [{ id: node.id, p50, p99 }] : [];
    })
    .sort((a, b) => b.p99 - a.p99);
  const most = rows[0]?.p99;
  if (most === undefined) {
    return <p className="text-[0.8125rem] text-soft">No member had an operation in the last minute.</p>;
  }
  return (
    <table className="w-full text-[0.8125rem]">
      <thead className="sr-only">
        <tr>
          <th>Member</th>
          <th>From p50 to p99</th>
          <th>p50</th>
          <th>p99</th>
        </tr>
      </thead>
      <tbody>
        {rows.slice(0, ROWS_MAX).map(({ id, p50, p99 }) => (
          <tr key={id}>
            <td className="w-px py-1 pr-3 whitespace-nowrap">
              <MemberLink id={id} byId={byId} />
            </td>
            <td className="py-1">
              <svg viewBox="0 0 100 10" preserveAspectRatio="none" className="block h-2.5 w-full" aria-hidden="true">
                <line x1="0" x2="100" y1="5" y2="5" stroke="var(--line)" vectorEffect="non-scaling-stroke" />
                <rect
                  x={(p50 / most) * 100}
                  width={Math.max(((p99 - p50) / most) * 100, 1)}
                  y="2"
                  height="6"
                  fill="var(--band)"
                />
                <rect x={(p50 / most) * 100} width="0.8" y="0" height="10" fill="var(--serving)" />
              </svg>
            </td>
            <td className="w-px py-1 pl-3 text-right whitespace-nowrap text-soft">{micros(p50)}</td>
            <td className="w-px py-1 pl-3 text-right whitespace-nowrap">{micros(p99)}</td>
          </tr>
        ))}
      </tbody>
      {rows.length > ROWS_MAX && (
        <caption className="label caption-bottom pt-1 text-left">and {rows.length - ROWS_MAX} faster ones</caption>
      )}
    </table>
  );
}
