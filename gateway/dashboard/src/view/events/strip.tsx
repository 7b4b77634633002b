import { scaleLinear } from "d3-scale";
import type { RingEvent } from "../../api/schema";
import { kindOf, type Tone } from "../../domain/events";
import { plural, span } from "../../domain/format";
import { TONES } from "./page";

const MINUTE = 60_000;
const WINDOWS = [5, 15, 60, 360, 1440].map((minutes) => minutes * MINUTE);
const LANES: Tone[] = ["warning", "change", "good", "quiet"];
const [WIDTH, LANE] = [1000, 14];

/** Events on a line of time, by weight: what came before what is seen at a glance. */
export function Strip({ events, now }: { events: readonly RingEvent[]; now: number }) {
  const oldest = events[0]?.at ?? now;
  const length = WINDOWS.find((window) => window >= now - oldest) ?? WINDOWS.at(-1) ?? MINUTE;
  const x = scaleLinear([now - length, now], [6, WIDTH - 6]);
  const shown = events.filter((event) => event.at >= now - length);
  return (
    <figure>
      <svg
        role="img"
        aria-label={`${plural(shown.length, "event")} in the last ${span(length)}`}
        viewBox={`0 0 ${WIDTH} ${LANES.length * LANE}`}
        preserveAspectRatio="none"
        className="block h-14 w-full"
      >
        {LANES.map((tone, at) => (
          <line
            key={tone}
            x1={0}
            x2={WIDTH}
            y1={(at + 0.5) * LANE}
            y2={(at + 0.5) * LANE}
            stroke="var(--line)"
            vectorEffect="non-scaling-stroke"
          />
        ))}
        {shown.map((event) => {
          const { tone } = kindOf(event);
          const y = (LANES.indexOf(tone) + 0.5) * LANE;
          return (
            <line
              key={event.number}
              x1={x(event.at)}
              x2={x(event.at)}
              y1={y - 5}
              y2={y + 5}
              stroke={TONES[tone].colour}
              strokeWidth={3}
              strokeLinecap="round"
              vectorEffect="non-scaling-stroke"
            >
              <title>{event.message}</title>
            </line>
          );
        })}
      </svg>
      <figcaption className="label flex justify-between">
        <span>{span(length)} ago</span>
        <span>now</span>
      </figcaption>
    </figure>
  );
}
