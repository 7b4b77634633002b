import { useState } from "react";
import type { Id, Node, Ring } from "../../api/schema";
import { bytes, compact, count, decimal, micros, percent, rate } from "../../domain/format";
import { shortId } from "../../domain/id";
import { LOOKS, lookOf } from "../../domain/ring";
import { useRing } from "../../store/context";
import { Figure, Section } from "../parts/figure";
import { Link } from "../parts/link";
import { Sign, TEXT } from "../parts/marker";
import { Notice } from "../parts/notice";
import { Spark } from "../parts/spark";
import { Windowed } from "../parts/windowed";

/** The whole ring in figures, and its members. */
export function Overview({ ring, missing }: { ring: Ring; missing: Id | null }) {
  const { history } = useRing();
  const { stats } = ring;
  const marks = history.whole.map((sample) => ({ at: sample.at, value: sample.ops }));
  return (
    <>
      <h2 className="sr-only">Overview</h2>
      {missing && (
        <div className="pb-4">
          <Notice title={`${shortId(missing)}… is not in the ring`}>It has left, or the address is not right.</Notice>
        </div>
      )}
      <Section title="Now" aside={ring.converged ? "converged" : "not converged"}>
        {ring.operator?.operation && (
          <p className="mb-3 text-[0.8125rem] text-joining" role="status">
            {ring.operator.operation.kind} of {ring.operator.operation.member}: {ring.operator.operation.progress}
          </p>
        )}
        {stats.notConvergedBecause && <p className="mb-3 text-[0.8125rem] text-suspect">{stats.notConvergedBecause}</p>}
        <dl className="grid grid-cols-3 gap-x-4 gap-y-3">
          <Figure name="Keys" value={compact(stats.keys)} note={`${bytes(stats.bytes)} in all copies`} />
          <Figure name="Operations" value={rate(stats.opsPerSecond)} unit="/s" />
          <Figure name="Slowest p99" value={micros(stats.latencyP99UsMax)} />
          <Figure name="Hops" value={decimal(stats.lookupHopsMean)} note="mean of all lookups" />
          <Figure name="Load" value={decimal(stats.loadMaxMean)} note="fullest over mean" />
          <Figure
            name="Under-replicated"
            value={
              <span className={stats.shardsUnderReplicated > 0 ? "text-suspect" : ""}>
                {count(stats.shardsUnderReplicated)}
              </span>
            }
            note={`of ${count(ring.shards)} shards`}
          />
        </dl>
        <div className="mt-3">
          <Spark
            marks={marks}
            label={`Operations per second since the page was opened, now ${rate(stats.opsPerSecond)}`}
          />
        </div>
      </Section>
      <Members nodes={ring.nodes} />
    </>
  );
}

function Members({ nodes }: { nodes: readonly Node[] }) {
  const [wanted, setWanted] = useState("");
  const needle = wanted.trim().toLowerCase();
  const isWanted = (node: Node) =>
    node.name.toLowerCase().includes(needle) || node.id.startsWith(needle) || node.zone.toLowerCase() === needle;
  const shown = needle === "" ? nodes : nodes.filter(isWanted);
  return (
    <Section
      title="Members"
      aside={needle === "" ? count(nodes.length) : `${count(shown.length)} of ${count(nodes.length)}`}
    >
      {nodes.length > 8 && (
        <input
          type="search"
          className="field mb-2 text-[0.8125rem]"
          placeholder="Name, identifier or zone"
          aria-label="Find members by name, identifier or zone"
          value={wanted}
          onChange={(event) => setWanted(event.target.value)}
        />
      )}
      {shown.length === 0 && <p className="py-2 text-[0.8125rem] text-soft">No member is called so.</p>}
      <Windowed
        items={shown}
        keyOf={(node) => node.id}
        height={34}
        label="Members, clockwise"
        row={(node) => <Member node={node} />}
      />
    </Section>
  );
}

function Member({ node }: { node: Node }) {
  const look = lookOf(node);
  return (
    <Link
      to={{ page: "ring", node: node.id }}
      className="-mx-2 flex h-[34px] items-center gap-2 rounded px-2 text-[0.8125rem] hover:bg-wash"
    >
      <Sign look={look} />
      <span className="min-w-0 grow truncate">
        {node.name}
        {look !== "serving" && <span className={`ml-2 ${TEXT[look]}`}>{LOOKS[look].label.toLowerCase()}</span>}
      </span>
      <span className="hidden font-mono text-xs text-faint sm:inline">{shortId(node.id)}</span>
      <span className="w-14 text-right text-soft">{percent(node.ownedShare)}</span>
      <span className="w-16 text-right">
        {compact(node.stats?.keysLeader)}
        <span className="sr-only"> keys</span>
      </span>
    </Link>
  );
}
