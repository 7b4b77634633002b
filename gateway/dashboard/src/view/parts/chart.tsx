import { scaleLinear } from "d3-scale";
import { line } from "d3-shape";
import { span } from "../../domain/format";
import { windowOf } from "../../domain/history";
import type { Mark } from "./spark";

export interface Series {
  name: string;
  colour: string;
  marks: readonly Mark[];
}

interface Props {
  series: readonly Series[];
  /** What is shown, with its newest values. */
  label: string;
  format: (value: number) => string;
}

const [WIDTH, HEIGHT] = [600, 170];

/** Lines over the last minutes, with a scale. */
export function Chart({ series, label, format }: Props) {
  const all = series.flatMap((one) => one.marks);
  const width = Math.max(...series.map((one) => windowOf(one.marks)));
  const end = Math.max(0, ...all.map((mark) => mark.at));
  const top = Math.max(...all.map((mark) => mark.value ?? 0), 1e-9);
  const x = scaleLinear([end - width, end], [0, WIDTH]);
  const y = scaleLinear([0, top], [HEIGHT - 2, 10]).nice(4);
  const shape = line<Mark>(
    (mark) => x(mark.at),
    (mark) => y(mark.value ?? 0),
  ).defined((mark) => mark.value !== null);
  const ticks = y.ticks(4);
  return (
    <figure>
      <div className="grid grid-cols-[minmax(0,1fr)_auto] gap-x-2">
        <svg
          role="img"
          aria-label={label}
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          preserveAspectRatio="none"
          className="block h-44 w-full"
        >
          {ticks.map((tick) => (
            <line
              key={tick}
              x1={0}
              x2={WIDTH}
              y1={y(tick)}
              y2={y(tick)}
              stroke="var(--line)"
              vectorEffect="non-scaling-stroke"
            />
          ))}
          {series.map((one) => (
            <path
              key={one.name}
              d={shape([...one.marks]) ?? ""}
              fill="none"
              stroke={one.colour}
              strokeWidth={1.75}
              strokeLinejoin="round"
              vectorEffect="non-scaling-stroke"
            />
          ))}
        </svg>
        <div aria-hidden="true" className="relative h-44 w-14 text-xs text-faint">
          {ticks.map((tick) => (
            <span key={tick} className="absolute -translate-y-1/2" style={{ top: `${(y(tick) / HEIGHT) * 100}%` }}>
              {format(tick)}
            </span>
          ))}
        </div>
        <div aria-hidden="true" className="label flex justify-between">
          <span>{span(width)} ago</span>
          <span>now</span>
        </div>
      </div>
      {series.length > 1 && (
        <figcaption className="label flex gap-4">
          {series.map((one) => (
            <span key={one.name} className="inline-flex items-center gap-1.5">
              <svg width="16" height="4" aria-hidden="true">
                <line x1="0" x2="16" y1="2" y2="2" stroke={one.colour} strokeWidth="2" />
              </svg>
              {one.name}
            </span>
          ))}
        </figcaption>
      )}
    </figure>
  );
}
