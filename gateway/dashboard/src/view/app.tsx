import { useEffect } from "react";
import { useRing } from "../store/context";
import { useTheme } from "../store/media";
import { useRoute } from "../store/route";
import { StaleBanner } from "./connection";
import { EventsPage } from "./events/page";
import { FiguresPage } from "./figures/page";
import { Header } from "./header";
import { LookupPage } from "./lookup/page";
import { Notice } from "./parts/notice";
import { RingPage } from "./ring/page";

export function App() {
  const { ring, connection } = useRing();
  const { theme, shown, choose } = useTheme();
  const route = useRoute();
  useEffect(() => {
    document.title = ring ? `${ring.name} · Chord` : "Chord";
  }, [ring?.name, ring]);
  return (
    <div className="flex min-h-dvh flex-col lg:h-dvh">
      <Header ring={ring} connection={connection} page={route.page} theme={theme} shown={shown} onTheme={choose} />
      <StaleBanner connection={connection} />
      <main className="grid min-h-0 grow content-start gap-4 p-4 lg:grid-cols-[minmax(0,1fr)_26rem] lg:content-stretch lg:gap-6 lg:p-6 2xl:grid-cols-[minmax(0,1fr)_30rem]">
        {!ring && <Waiting failed={connection.kind === "reconnecting"} />}
        {ring && ring.nodes.length === 0 && <Empty name={ring.name} />}
        {ring && ring.nodes.length > 0 && route.page === "ring" && (
          <RingPage ring={ring} chosen={route.node} theme={shown} />
        )}
        {ring && ring.nodes.length > 0 && route.page === "lookup" && (
          <LookupPage ring={ring} route={route} theme={shown} />
        )}
        {ring && ring.nodes.length > 0 && route.page === "figures" && <FiguresPage ring={ring} />}
        {ring && ring.nodes.length > 0 && route.page === "events" && <EventsPage ring={ring} />}
      </main>
    </div>
  );
}

/** Before the first picture. */
function Waiting({ failed }: { failed: boolean }) {
  return (
    <Middle>
      {failed ? (
        <Notice title="The gateway does not answer" tone="bad">
          This page tries again by itself. If that lasts: is the gateway running, and is the network up?
        </Notice>
      ) : (
        <p role="status" className="text-soft">
          Asking the gateway for the ring …
        </p>
      )}
    </Middle>
  );
}

/** The gateway answers, but no member ever did. */
function Empty({ name }: { name: string }) {
  return (
    <Middle>
      <Notice title={`No member of ${name} has answered yet`}>
        The gateway looks for them and shows the ring as soon as one does. If that lasts, see whether its pods are
        ready: kubectl get chordring {name}
      </Notice>
    </Middle>
  );
}

function Middle({ children }: { children: React.ReactNode }) {
  return (
    <div className="col-span-full grid min-h-72 place-items-center">
      <div className="max-w-md text-center">
        <svg width="120" height="120" viewBox="-60 -60 120 120" aria-hidden="true" className="mx-auto mb-6">
          <circle r="46" fill="none" stroke="var(--line)" strokeWidth="8" strokeDasharray="68.27 4" />
        </svg>
        {children}
      </div>
    </div>
  );
}
