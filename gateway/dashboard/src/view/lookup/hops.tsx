import type { Lookup, Ring } from "../../api/schema";
import { decimal, micros, percent, plural } from "../../domain/format";
import { expectedHops, hopTimes, lastStep, whyOf } from "../../domain/lookup";
import { useRing } from "../../store/context";
import { MemberLink } from "../node/panel";
import { Section } from "../parts/figure";

interface Props {
  lookup: Lookup;
  step: number;
  onStep: (step: number) => void;
}

/** The hops, each with what it narrowed the search down to, and its time. */
export function Hops({ lookup, step, onStep }: Props) {
  const times = hopTimes(lookup);
  const last = lastStep(lookup);
  return (
    <Section title="Hop by hop" aside={`${plural(last, "hop")}, ${micros(lookup.elapsedUs)}`}>
      <ol className="-mx-2">
        {lookup.hops.map((hop, at) => (
          <li key={hop.node.id} aria-current={at === step ? "step" : undefined}>
            <button
              type="button"
              onClick={() => onStep(at)}
              className={`flex w-full items-start gap-3 rounded px-2 py-1.5 text-left text-[0.8125rem] hover:bg-wash ${at === step ? "bg-wash" : ""}`}
            >
              <span
                className={`mt-0.5 grid size-5 shrink-0 place-items-center rounded-full text-[0.6875rem] font-semibold ${at <= step ? "bg-hop text-paper" : "border border-strong text-faint"}`}
              >
                {at}
              </span>
              <span className="min-w-0 grow">
                <span className="font-medium">{hop.node.name}</span>
                <span className="block text-soft">{whyOf(hop.via)}</span>
                <span className="block text-soft">
                  {at === last ? "it owns" : "sought in"} {percent(hop.interval.share)} of the circle
                </span>
              </span>
              <span className="shrink-0 text-right">{at === 0 ? "start" : `+ ${micros(times[at])}`}</span>
            </button>
          </li>
        ))}
      </ol>
    </Section>
  );
}

/** The same question as every client of this ring asks it: of a map it keeps. */
export function OneHop({
  lookup,
  ring,
  shown,
  onShow,
}: {
  lookup: Lookup;
  ring: Ring;
  shown: boolean;
  onShow: (shown: boolean) => void;
}) {
  const { byId } = useRing();
  const others = lookup.replicas.filter((node) => node.id !== lookup.leader?.id);
  return (
    <Section
      title="In one hop"
      aside={
        <label className="inline-flex items-center gap-1.5">
          <input
            type="checkbox"
            checked={shown}
            onChange={(event) => onShow(event.target.checked)}
            className="accent-onehop"
          />
          show it
        </label>
      }
    >
      <p className="text-[0.8125rem] text-soft">
        {lookup.leader ? (
          <>
            Clients keep a map of the shards, so they ask{" "}
            <span className="font-medium text-onehop">{lookup.leader.name}</span> straight away: it leads shard{" "}
            {lookup.shard}, which holds this place
            {others.length > 0 && (
              <>
                , with copies on{" "}
                {others.map((node, at) => (
                  <span key={node.id}>
                    {at > 0 && ", "}
                    <MemberLink id={node.id} byId={byId} />
                  </span>
                ))}
              </>
            )}
            .
          </>
        ) : (
          `${lookup.from.name} does not know who leads shard ${lookup.shard} just now.`
        )}
      </p>
      <p className="mt-2 text-[0.8125rem] text-soft">
        By fingers alone, about ½ log₂ N hops are usual: {decimal(expectedHops(ring.nodes.length), 1)} among{" "}
        {plural(ring.nodes.length, "member")}.
        {ring.stats.lookupHopsMean !== null && ` This ring measured ${decimal(ring.stats.lookupHopsMean)} on average.`}
      </p>
    </Section>
  );
}
