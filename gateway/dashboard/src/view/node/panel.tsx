import type { FingerTable, Id, Node, Ring } from "../../api/schema";
import { bytes, clock, count, decimal, micros, percent, plural, rate, span } from "../../domain/format";
import { shortId } from "../../domain/id";
import { LOOKS, lookOf, neighbour } from "../../domain/ring";
import { useRing } from "../../store/context";
import type { Answer } from "../parts/ask";
import { Figure, Row, Section } from "../parts/figure";
import { Link } from "../parts/link";
import { StateName } from "../parts/marker";
import { Notice } from "../parts/notice";
import { Spark } from "../parts/spark";
import { Fingers } from "./fingers";

interface Props {
  node: Node;
  ring: Ring;
  fingers: Answer<FingerTable> | null;
  onMark: (target: Id | null) => void;
}

/** All that is known of one member. */
export function NodePanel({ node, ring, fingers, onMark }: Props) {
  const { history, byId } = useRing();
  const look = lookOf(node);
  const flow = history.flow(node.id);
  const step = (by: 1 | -1) => ({ page: "ring", node: neighbour(ring.nodes, node.id, by) }) as const;
  return (
    <>
      <div className="flex items-center gap-1 pb-3">
        <Link to={{ page: "ring", node: null }} className="button">
          ← Overview
        </Link>
        <Link to={step(-1)} className="button ml-auto" aria-label="Member before, against the clock">
          ↺
        </Link>
        <Link to={step(1)} className="button" aria-label="Next member, clockwise">
          ↻
        </Link>
      </div>
      <h2 className="text-xl font-semibold tracking-tight">{node.name}</h2>
      <p className="mt-1 font-mono text-xs break-all text-soft">{node.id}</p>
      <p className="mt-2 text-[0.8125rem]">
        <StateName look={look} /> <span className="text-soft">{LOOKS[look].meaning}</span>
      </p>
      {node.staleSince !== null && (
        <p className="mt-1 text-[0.8125rem] text-lost">
          Nothing is heard from it since {clock(node.staleSince)}, {span(ring.generatedAt - node.staleSince)} ago.
          {node.stats && " What follows is as of then."}
        </p>
      )}
      {flow.received + flow.sent + flow.shards > 0 && (
        <p className="mt-1 text-[0.8125rem] text-hop">
          {[
            flow.received > 0 && `${rate(flow.received)} keys/s come in`,
            flow.sent > 0 && `${rate(flow.sent)} keys/s go out`,
            flow.shards > 0 && `${plural(flow.shards, "shard")} change hands`,
          ]
            .filter(Boolean)
            .join(", ")}
        </p>
      )}
      <div className="mt-4">
        <Measures node={node} />
        <Section title="Place in the ring">
          <dl>
            <Row name="Owns">{percent(node.ownedShare)} of the circle</Row>
            <Row name="Predecessor">
              <MemberLink id={node.predecessor} byId={byId} />
            </Row>
            <Row name={node.successors.length > 1 ? "Successors, nearest first" : "Successor"}>
              {node.successors.length === 0 && "–"}
              <ol>
                {node.successors.map((id) => (
                  <li key={id}>
                    <MemberLink id={id} byId={byId} />
                  </li>
                ))}
              </ol>
            </Row>
          </dl>
        </Section>
        <Fingers answer={fingers} byId={byId} onMark={onMark} heard={node.staleSince === null} />
        <Section title="Process">
          <dl>
            <Row name="Version">{node.version ?? "–"}</Row>
            <Row name="Up for">{span(node.uptimeMs)}</Row>
            <Row name="Starts">{count(node.incarnation)}</Row>
            <Row name="Zone">{node.zone || "not set"}</Row>
            <Row name="Address">{node.clientAddr || "–"}</Row>
          </dl>
        </Section>
      </div>
    </>
  );
}

function Measures({ node }: { node: Node }) {
  const { history } = useRing();
  const { stats } = node;
  if (!stats) {
    return <Notice title="It has not told its figures yet">They come as soon as the gateway hears from it.</Notice>;
  }
  const samples = history.of(node.id);
  const marks = (of: "ops" | "p50Us" | "p99Us") => samples.map((sample) => ({ at: sample.at, value: sample[of] }));
  return (
    <>
      <Section
        title="Keys"
        aside={`${count(stats.keysReceived)} received, ${count(stats.keysSent)} sent since its start`}
      >
        <dl className="grid grid-cols-3 gap-4">
          <Figure name="As leader" value={count(stats.keysLeader)} note={plural(stats.shardsLeader, "shard")} />
          <Figure name="As replica" value={count(stats.keysReplica)} note={plural(stats.shardsReplica, "shard")} />
          <Figure
            name="On disk"
            value={bytes(stats.bytes)}
            note={`${count(stats.shardsUnderReplicated)} under-replicated`}
          />
        </dl>
      </Section>
      <Section title="Requests" aside="the last 3 minutes, while this page is open">
        <dl className="grid grid-cols-3 gap-4">
          <Figure name="Operations" value={rate(stats.opsPerSecond)} unit="/s" />
          <Figure name="p50" value={micros(stats.latencyP50Us)} />
          <Figure name="p99" value={micros(stats.latencyP99Us)} />
        </dl>
        <div className="mt-2 grid grid-cols-3 gap-4">
          <Spark marks={marks("ops")} label={`Operations per second, now ${rate(stats.opsPerSecond)}`} />
          <Spark
            marks={marks("p50Us")}
            label={`Half of all took at most ${micros(stats.latencyP50Us)}`}
            colour="var(--joining)"
          />
          <Spark
            marks={marks("p99Us")}
            label={`99 of 100 took at most ${micros(stats.latencyP99Us)}`}
            colour="var(--joining)"
          />
        </div>
        <dl className="mt-2">
          <Row name="Gets, puts, deletes since its start">
            {count(stats.gets)}, {count(stats.puts)}, {count(stats.deletes)}
          </Row>
          <Row name="Lookups begun at it">
            {stats.lookupHopsMean === null
              ? "none yet"
              : `${count(stats.lookups)}, ${decimal(stats.lookupHopsMean)} hops on average`}
          </Row>
          <Row name="Rounds of stabilization">{count(stats.stabilizeRounds)}</Row>
        </dl>
      </Section>
    </>
  );
}

interface MemberLinkProps {
  id: Id | null;
  byId: ReadonlyMap<Id, Node>;
  /** For members that are gone. */
  name?: string;
}

export function MemberLink({ id, byId, name }: MemberLinkProps) {
  if (id === null) {
    return "–";
  }
  const node = byId.get(id);
  return node ? (
    <Link to={{ page: "ring", node: id }} className="underline decoration-line underline-offset-4 hover:decoration-ink">
      {node.name}
    </Link>
  ) : (
    <span className="text-faint">{name ?? `${shortId(id)}…`} (gone)</span>
  );
}
