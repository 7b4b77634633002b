import type { Ring } from "../../api/schema";
import { compact, plural, rate } from "../../domain/format";
import type { View } from "../../domain/view";

/** In the middle of the circle, while nothing else is there. The same is said in the overview. */
export function Readout({ ring, view }: { ring: Ring; view: View }) {
  if (view.radius < 110) {
    return null;
  }
  const { stats } = ring;
  return (
    <g textAnchor="middle" className="pointer-events-none">
      <text y={-34} className="fill-faint text-[13px]">
        {plural(stats.nodes, "member")}
      </text>
      <text y={8} className="fill-ink text-[40px] font-medium tracking-tight">
        {compact(stats.keys)}
      </text>
      <text y={30} className="fill-faint text-[13px]">
        keys, {rate(stats.opsPerSecond)} operations/s
      </text>
      <text y={58} className={`text-[13px] ${ring.converged ? "fill-serving" : "fill-suspect"}`}>
        {ring.converged ? "● converged" : "◌ not converged"}
      </text>
    </g>
  );
}
