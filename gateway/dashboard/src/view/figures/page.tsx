import type { ReactNode } from "react";
import type { Ring } from "../../api/schema";
import { bytes, compact, count, decimal, micros, plural, rate } from "../../domain/format";
import type { Sample } from "../../domain/history";
import { expectedHops } from "../../domain/lookup";
import { useRing } from "../../store/context";
import { Chart } from "../parts/chart";
import { Figure } from "../parts/figure";
import { LatencyRows } from "./latency";
import { LoadBars } from "./load";

/** The ring in figures. All are measured by its members; none is a guess. */
export function FiguresPage({ ring }: { ring: Ring }) {
  const { history } = useRing();
  const { stats } = ring;
  const marks = (of: Exclude<keyof Sample, "at">) =>
    history.whole.map((sample) => ({ at: sample.at, value: sample[of] }));
  return (
    <div className="col-span-full grid min-h-0 content-start gap-4 overflow-y-auto lg:grid-cols-2">
      <Card title="Health" wide>
        <dl className="grid grid-cols-2 gap-x-6 gap-y-4 sm:grid-cols-3 xl:grid-cols-6">
          <Figure
            name="Pointers"
            value={
              <span className={ring.converged ? "text-serving" : "text-suspect"}>
                {ring.converged ? "converged" : "not converged"}
              </span>
            }
            note={stats.notConvergedBecause ?? "all members point to their true neighbours"}
          />
          <Figure
            name="Members"
            value={count(stats.nodes)}
            note={`${count(stats.serving)} serving, ${count(stats.stale)} not heard`}
          />
          <Figure
            name="Shards"
            value={count(ring.shards)}
            note={`${count(stats.shardsUnderReplicated)} under-replicated, ${count(stats.shardsMoving)} on their way`}
          />
          <Figure
            name="Keys"
            value={compact(stats.keys)}
            note={`${bytes(stats.bytes)} in ${count(ring.replicationFactor)} copies`}
          />
          <Figure name="Keys moved" value={compact(stats.keysReceived)} note="received by members since their starts" />
          <Figure name="Stabilization" value={compact(stats.stabilizeRounds)} note="rounds since the members' starts" />
        </dl>
      </Card>
      <Card title="Operations per second" aside={rate(stats.opsPerSecond)}>
        <Chart
          series={[{ name: "operations", colour: "var(--serving)", marks: marks("ops") }]}
          label={`Operations per second in the last minutes, now ${rate(stats.opsPerSecond)}`}
          format={rate}
        />
        <p className="label mt-1">
          Since the members' starts: {count(stats.gets)} gets, {count(stats.puts)} puts, {count(stats.deletes)} deletes.
        </p>
      </Card>
      <Card
        title="Latency of the slowest member"
        aside={`p50 ${micros(stats.latencyP50UsMax)}, p99 ${micros(stats.latencyP99UsMax)}`}
      >
        <Chart
          series={[
            { name: "p99", colour: "var(--joining)", marks: marks("p99Us") },
            { name: "p50", colour: "var(--serving)", marks: marks("p50Us") },
          ]}
          label={`Latency in the last minutes, now half within ${micros(stats.latencyP50UsMax)} and 99 of 100 within ${micros(stats.latencyP99UsMax)}`}
          format={micros}
        />
        <p className="label mt-1">
          As members measured it over the last minute. Percentiles of members cannot be added up.
        </p>
      </Card>
      <Card
        title="Keys led by each member"
        aside={stats.loadMaxMean === null ? "no keys" : `fullest ${decimal(stats.loadMaxMean)} × mean`}
      >
        <LoadBars nodes={ring.nodes} />
      </Card>
      <Card title="Latency by member" aside="p50 to p99, slowest first">
        <LatencyRows nodes={ring.nodes} />
      </Card>
      <Card title="Lookups" wide aside={plural(stats.lookups, "lookup")}>
        <dl className="grid grid-cols-2 gap-x-6 gap-y-4 sm:grid-cols-3">
          <Figure name="Hops, mean" value={decimal(stats.lookupHopsMean)} note="from the member asked to the owner" />
          <Figure
            name="½ log₂ N"
            value={decimal(expectedHops(stats.nodes))}
            note={`what Chord's paper found usual, for N = ${count(stats.nodes)}`}
          />
          <Figure
            name="log₂ N"
            value={decimal(expectedHops(stats.nodes) * 2)}
            note="what it bounds, with high probability"
          />
        </dl>
      </Card>
    </div>
  );
}

function Card({
  title,
  aside,
  wide,
  children,
}: {
  title: string;
  aside?: ReactNode;
  wide?: boolean;
  children: ReactNode;
}) {
  return (
    <section className={`min-w-0 rounded-[10px] border border-line bg-panel p-5 ${wide ? "lg:col-span-2" : ""}`}>
      <div className="mb-3 flex items-baseline justify-between gap-3">
        <h2 className="text-[0.8125rem] font-semibold">{title}</h2>
        {aside && <p className="label text-right">{aside}</p>}
      </div>
      {children}
    </section>
  );
}
