import { useMemo, useState } from "react";
import type { Id, Ring } from "../../api/schema";
import { staleSince } from "../../domain/connection";
import { plural } from "../../domain/format";
import { LOOKS, seatsOf } from "../../domain/ring";
import { useParts, useRing } from "../../store/context";
import { useNow } from "../../store/media";
import { go } from "../../store/route";
import { NodePanel } from "../node/panel";
import { useAnswer } from "../parts/ask";
import { Legend } from "./legend";
import { NodeOverlay } from "./node-overlay";
import { Overview } from "./overview";
import { Readout } from "./readout";
import { Stage } from "./stage";

/** What is seen, for those who do not see it. */
export function inWords(ring: Ring): string {
  const looks = new Map<string, number>();
  for (const { look } of seatsOf(ring.nodes)) {
    looks.set(LOOKS[look].label, (looks.get(LOOKS[look].label) ?? 0) + 1);
  }
  const states = [...looks].map(([label, count]) => `${count} ${label.toLowerCase()}`).join(", ");
  return `A ring of ${plural(ring.nodes.length, "member")}: ${states}.`;
}

/** The ring, live; a member of it when one is chosen. */
export function RingPage({ ring, chosen, theme }: { ring: Ring; chosen: Id | null; theme: string }) {
  const { connection, history, byId } = useRing();
  const { api } = useParts();
  const now = useNow(1000);
  const node = chosen === null ? undefined : byId.get(chosen);
  const [marked, setMarked] = useState<Id | null>(null);
  // Asked anew when its neighbours change: then its fingers may have, too.
  const around = node && [node.predecessor, ...node.successors, ring.nodes.length].join();
  const heard = node?.staleSince === null;
  const fingers = useAnswer(
    node && heard ? `${node.id} ${around}` : null,
    (signal) => api.fingers(node?.id ?? "", signal),
    (old) => old.node.id === node?.id,
  );
  const table = fingers?.kind === "there" && heard ? fingers.value : null;
  const seats = useMemo(() => seatsOf(ring.nodes), [ring.nodes]);
  const select = (id: Id | null) => go({ page: "ring", node: id });
  return (
    <>
      <div className="flex min-h-0 flex-col gap-2 max-lg:h-[min(92vw,70dvh)] max-lg:min-h-80">
        <div className="relative min-h-0 grow">
          <Stage
            ring={ring}
            history={history}
            label={inWords(ring)}
            theme={theme}
            old={staleSince(connection, now) !== null}
            selected={node?.id ?? null}
            onSelect={select}
            overlay={(view, posed) =>
              node ? (
                <NodeOverlay
                  node={node}
                  posed={posed}
                  view={view}
                  replicationFactor={ring.replicationFactor}
                  fingers={table?.folded.flatMap((finger) => finger.target?.id ?? []) ?? []}
                  marked={marked}
                />
              ) : (
                <Readout ring={ring} view={view} />
              )
            }
          />
        </div>
        <Legend seats={seats} selection={node !== undefined} />
      </div>
      <aside aria-label={node ? `Member ${node.name}` : "Overview"} className="panel">
        {node ? (
          <NodePanel node={node} ring={ring} fingers={fingers} onMark={setMarked} />
        ) : (
          <Overview ring={ring} missing={chosen} />
        )}
      </aside>
    </>
  );
}
