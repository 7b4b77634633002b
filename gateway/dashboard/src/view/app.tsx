import { lazy, Suspense, useEffect } from "react";
import type { Ring } from "../api/schema";
import type { Connection } from "../domain/connection";
import type { Route } from "../domain/route";
import { useRing } from "../store/context";
import { useTheme } from "../store/media";
import { useRoute } from "../store/route";
import { StaleBanner } from "./connection";
import { Header } from "./header";
import { LookupPage } from "./lookup/page";
import { Boundary } from "./parts/boundary";
import { Notice } from "./parts/notice";
import { RingPage } from "./ring/page";

// The first view comes first; the others are small, and come when they are wanted.
const SandboxPage = lazy(() => import("./sandbox/page"));
const FiguresPage = lazy(async () => ({ default: (await import("./figures/page")).FiguresPage }));
const EventsPage = lazy(async () => ({ default: (await import("./events/page")).EventsPage }));

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
        <Boundary key={route.page}>
          <Suspense fallback={<Middle>Loading …</Middle>}>
            <View route={route} ring={ring} connection={connection} theme={shown} />
          </Suspense>
        </Boundary>
      </main>
    </div>
  );
}

interface ViewProps {
  route: Route;
  ring: Ring | null;
  connection: Connection;
  theme: string;
}

function View({ route, ring, connection, theme }: ViewProps) {
  if (route.page === "sandbox") {
    return <SandboxPage theme={theme} />;
  }
  if (!ring) {
    return <Waiting failed={connection.kind === "reconnecting"} />;
  }
  if (ring.nodes.length === 0) {
    return <Empty name={ring.name} />;
  }
  switch (route.page) {
    case "ring":
      return <RingPage ring={ring} chosen={route.node} theme={theme} />;
    case "lookup":
      return <LookupPage ring={ring} route={route} theme={theme} />;
    case "figures":
      return <FiguresPage ring={ring} />;
    case "events":
      return <EventsPage ring={ring} />;
  }
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
