import { useState } from "react";
import type { Id } from "../../api/schema";
import { plural, span } from "../../domain/format";
import { useReducedMotion } from "../../store/media";
import { Section } from "../parts/figure";
import { Notice } from "../parts/notice";
import { NodeOverlay } from "../ring/node-overlay";
import { inWords } from "../ring/page";
import { Stage } from "../ring/stage";
import { Clock, Keys, NodeControls } from "./controls";
import { Flights } from "./flights";
import { Lessons } from "./lessons";
import { type Seen, useSandbox } from "./use-sandbox";

/** A ring of one's own, in which everything may be broken. */
export default function SandboxPage({ theme }: { theme: string }) {
  const { state, seen, send, again } = useSandbox();
  const still = useReducedMotion();
  const [chosen, setChosen] = useState<Id | null>(null);
  if (state.kind === "ended") {
    return (
      <div className="col-span-full mx-auto max-w-md py-12">
        <Notice title="The sandbox has ended" tone="bad">
          <p>{state.reason}</p>
          <button type="button" className="button mt-3" onClick={again}>
            A new one
          </button>
        </Notice>
      </div>
    );
  }
  if (!seen) {
    return (
      <p role="status" className="col-span-full py-12 text-center text-soft">
        Making a ring to play with …
      </p>
    );
  }
  const { frame, ring, history } = seen;
  const node = ring.nodes.find((one) => one.id === chosen);
  const own = frame.nodes.find((one) => one.id === chosen);
  const ids = new Map(frame.nodes.map((one) => [one.node, one.id]));
  return (
    <>
      <div className="flex min-h-0 flex-col gap-3 max-lg:h-[min(120vw,80dvh)] max-lg:min-h-96">
        <p className="text-[0.8125rem] text-soft">
          A ring simulated in the gateway by the very code that the real nodes run, for you alone. Nothing here touches
          the real ring. It ends in {span(frame.expiresInMs)}, or when you leave this view.
        </p>
        <div className="relative min-h-0 grow">
          <Stage
            ring={ring}
            history={history}
            label={`Sandbox. ${inWords(ring)} The ring is ${frame.ideal ? "as it should be" : "not as it should be"}.`}
            theme={theme}
            old={false}
            selected={node?.id ?? null}
            onSelect={setChosen}
            overlay={(view, posed) => (
              <>
                {node && (
                  <NodeOverlay
                    node={node}
                    posed={posed}
                    view={view}
                    replicationFactor={ring.replicationFactor}
                    fingers={own?.fingers.flatMap((finger) => ids.get(finger) ?? []) ?? []}
                    marked={null}
                  />
                )}
                <Flights seen={seen} view={view} still={still} />
                {!node && (
                  <text textAnchor="middle" className={`text-[13px] ${frame.ideal ? "fill-serving" : "fill-suspect"}`}>
                    {frame.ideal ? "● the ring is as it should be" : "◌ the ring is being repaired"}
                  </text>
                )}
              </>
            )}
          />
        </div>
        <Clock frame={frame} send={send} />
      </div>
      <aside aria-label="Sandbox" className="panel">
        <h2 className="sr-only">Sandbox</h2>
        <Lessons frame={frame} send={send} />
        {node && <NodeControls frame={frame} id={node.id} send={send} />}
        <Keys frame={frame} from={own?.up ? own.node : null} send={send} />
        <Log seen={seen} />
      </aside>
    </>
  );
}

/** What happened, newest first, each with what it means. */
function Log({ seen }: { seen: Seen }) {
  return (
    <Section title="What happens" aside={`${plural(seen.ring.stats.keys, "key")} led`}>
      {seen.log.length === 0 && <p className="text-[0.8125rem] text-soft">Do something, or press Step.</p>}
      <ol className="space-y-2" aria-live="polite">
        {[...seen.log].reverse().map((entry) => (
          <li key={entry.number} className="text-[0.8125rem]">
            <span className="font-medium">{entry.title}</span>{" "}
            <span className="text-faint">{(entry.atMs / 1000).toFixed(2)} s</span>
            <p className="text-soft">{entry.text}</p>
          </li>
        ))}
      </ol>
    </Section>
  );
}
