import type { Seat } from "../../domain/ring";
import { LOOKS, type Look } from "../../domain/ring";
import { LineSign } from "../parts/line-sign";
import { StateName } from "../parts/marker";

const ORDER: Look[] = ["serving", "joining", "leaving", "suspect", "lost", "unheard", "waiting"];

/** How many are in which state; and, on demand, what the signs mean. */
export function Legend({ seats, selection }: { seats: readonly Seat[]; selection: boolean }) {
  const counts = new Map<Look, number>();
  for (const { look } of seats) {
    counts.set(look, (counts.get(look) ?? 0) + 1);
  }
  return (
    <div className="flex flex-wrap items-center gap-x-4 gap-y-1 text-[0.8125rem]">
      {ORDER.filter((look) => counts.has(look)).map((look) => (
        <StateName key={look} look={look}>
          <span className="text-ink">{counts.get(look)}</span>
        </StateName>
      ))}
      {selection && (
        <span className="flex flex-wrap gap-x-4 text-soft">
          <LineSign name="successor" colour="var(--ink)" width={2.25} />
          <LineSign name="predecessor" colour="var(--soft)" width={1.5} dash="2 4" />
          <LineSign name="fingers" colour="var(--soft)" width={1} />
          <LineSign name="copies of its keys" colour="var(--serving)" width={3} />
        </span>
      )}
      <details className="relative ml-auto">
        <summary className="text-soft underline decoration-line underline-offset-4 hover:text-ink">Signs</summary>
        <div className="absolute right-0 bottom-7 z-20 w-80 max-w-[80vw] rounded-md border border-line bg-panel p-4 shadow-md">
          <dl className="space-y-2">
            {ORDER.map((look) => (
              <div key={look}>
                <dt>
                  <StateName look={look} />
                </dt>
                <dd className="pl-5 text-soft">{LOOKS[look].meaning}</dd>
              </div>
            ))}
            <div>
              <dt className="text-hop">• • • Keys on their way</dt>
              <dd className="pl-5 text-soft">Towards a member: it receives. Away from it: it sends.</dd>
            </div>
          </dl>
        </div>
      </details>
    </div>
  );
}
