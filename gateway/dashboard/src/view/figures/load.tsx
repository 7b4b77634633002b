import { scaleLinear } from "d3-scale";
import type { Node } from "../../api/schema";
import { compact, decimal } from "../../domain/format";
import { loadBars } from "../../domain/load";
import { SHAPES } from "../parts/marker";

const [WIDTH, HEIGHT] = [600, 180];

/** A bar for each member, in the order of the circle, and the mean as a line. */
export function LoadBars({ nodes }: { nodes: readonly Node[] }) {
  const { bars, mean } = loadBars(nodes);
  if (mean === null) {
    return <p className="text-[0.8125rem] text-soft">There are no keys yet.</p>;
  }
  const fullest = bars.reduce((most, bar) => (bar.keys > most.keys ? bar : most));
  const least = bars.reduce((most, bar) => (bar.keys < most.keys ? bar : most));
  const y = scaleLinear([0, Math.max(fullest.keys, mean * 1.25)], [0, HEIGHT - 8]);
  const width = WIDTH / bars.length;
  const gap = Math.min(width * 0.25, 8);
  const words = `Keys led by ${bars.length} members: at least ${compact(least.keys)} (${least.name}), at most ${compact(fullest.keys)} (${fullest.name}), mean ${compact(mean)}.`;
  return (
    <>
      <svg
        role="img"
        aria-label={words}
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        className="block h-44 w-full"
      >
        {bars.map((bar, at) => (
          <rect
            key={bar.id}
            x={at * width + gap / 2}
            y={HEIGHT - y(bar.keys)}
            width={width - gap}
            height={y(bar.keys)}
            fill={bar.look === "serving" ? "var(--band)" : SHAPES[bar.look].colour}
            className="hover:opacity-75"
          >
            <title>{`${bar.name}: ${compact(bar.keys)} keys, ${decimal(bar.ofMean)} × mean`}</title>
          </rect>
        ))}
        <line
          x1={0}
          x2={WIDTH}
          y1={HEIGHT - y(mean)}
          y2={HEIGHT - y(mean)}
          stroke="var(--ink)"
          strokeDasharray="5 4"
          vectorEffect="non-scaling-stroke"
        />
      </svg>
      <p className="label mt-1">
        Dashed: the mean, {compact(mean)}. Fullest {fullest.name} with {compact(fullest.keys)}, least {least.name} with{" "}
        {compact(least.keys)}.
      </p>
    </>
  );
}
