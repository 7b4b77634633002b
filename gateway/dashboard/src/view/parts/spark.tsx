import { scaleLinear } from "d3-scale";
import { area, line } from "d3-shape";
import { windowOf } from "../../domain/history";

export interface Mark {
  at: number;
  value: number | null;
}

interface Props {
  marks: readonly Mark[];
  /** Says what the line shows, with its newest value. */
  label: string;
  colour?: string;
  height?: number;
}

const WIDTH = 240;

/** A small line from 0 upwards: the last minutes of one figure. Gaps are times without a measurement. */
export function Spark({ marks, label, colour = "var(--serving)", height = 36 }: Props) {
  const last = marks.at(-1);
  const end = last?.at ?? 0;
  const top = Math.max(...marks.map((mark) => mark.value ?? 0), 1e-9);
  const x = scaleLinear([end - windowOf(marks), end], [0, WIDTH - 3]);
  const y = scaleLinear([0, top], [height - 1.5, 3]);
  const isThere = (mark: Mark) => mark.value !== null;
  const shape = line<Mark>(
    (mark) => x(mark.at),
    (mark) => y(mark.value ?? 0),
  ).defined(isThere);
  const ground = area<Mark>(
    (mark) => x(mark.at),
    height,
    (mark) => y(mark.value ?? 0),
  ).defined(isThere);
  return (
    <svg
      role="img"
      aria-label={label}
      viewBox={`0 0 ${WIDTH} ${height}`}
      preserveAspectRatio="none"
      className="block w-full overflow-visible"
      height={height}
    >
      <line
        x1={0}
        x2={WIDTH}
        y1={height - 0.5}
        y2={height - 0.5}
        stroke="var(--line)"
        vectorEffect="non-scaling-stroke"
      />
      <path d={ground([...marks]) ?? ""} fill={colour} opacity={0.1} />
      <path
        d={shape([...marks]) ?? ""}
        fill="none"
        stroke={colour}
        strokeWidth={1.5}
        vectorEffect="non-scaling-stroke"
      />
    </svg>
  );
}
