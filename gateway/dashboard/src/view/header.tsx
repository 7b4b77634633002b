import type { Ring } from "../api/schema";
import type { Connection } from "../domain/connection";
import type { Route } from "../domain/route";
import type { Theme } from "../store/media";
import { ConnectionState } from "./connection";
import { Link } from "./parts/link";

const VIEWS: { name: string; route: Route }[] = [
  { name: "Ring", route: { page: "ring", node: null } },
  { name: "Lookup", route: { page: "lookup", ask: null, step: null } },
  { name: "Figures", route: { page: "figures" } },
  { name: "Events", route: { page: "events" } },
  { name: "Sandbox", route: { page: "sandbox" } },
];

interface Props {
  ring: Ring | null;
  connection: Connection;
  page: Route["page"];
  theme: Theme;
  shown: "light" | "dark";
  onTheme: (theme: Theme) => void;
}

export function Header({ ring, connection, page, theme, shown, onTheme }: Props) {
  const other = shown === "light" ? "dark" : "light";
  return (
    <header className="flex flex-wrap items-center gap-x-6 gap-y-2 border-b border-line bg-panel px-4 py-2.5 lg:px-6">
      <h1 className="flex items-center gap-2 font-semibold tracking-tight">
        <Logo />
        {ring ? (
          <span>
            <span className="font-normal text-faint">{ring.namespace} / </span>
            {ring.name}
          </span>
        ) : (
          "Chord"
        )}
      </h1>
      <nav aria-label="Views" className="order-last -mx-1 flex w-full gap-1 overflow-x-auto sm:order-none sm:w-auto">
        {VIEWS.map(({ name, route }) => (
          <Link
            key={name}
            to={route}
            aria-current={route.page === page ? "page" : undefined}
            className="rounded-md px-3 py-1.5 text-[0.875rem] text-soft hover:bg-wash hover:text-ink aria-[current=page]:bg-wash aria-[current=page]:font-medium aria-[current=page]:text-ink"
          >
            {name}
          </Link>
        ))}
      </nav>
      <div className="ml-auto flex items-center gap-4">
        <ConnectionState connection={connection} />
        <button
          type="button"
          className="button"
          onClick={() => onTheme(other)}
          onDoubleClick={() => onTheme("system")}
          aria-label={`Show in ${other} colours`}
          title={theme === "system" ? "Colours follow your system" : undefined}
        >
          <svg width="14" height="14" viewBox="0 0 16 16" aria-hidden="true">
            <circle cx="8" cy="8" r="6.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
            <path d="M8 1.5a6.5 6.5 0 0 1 0 13z" fill="currentColor" />
          </svg>
        </button>
      </div>
    </header>
  );
}

function Logo() {
  return (
    <svg width="24" height="24" viewBox="0 0 32 32" aria-hidden="true">
      <circle cx="16" cy="16" r="11" fill="none" stroke="var(--serving)" strokeWidth="3" />
      <path d="M8.2 8.2 27 16" stroke="var(--serving)" strokeWidth="2" />
      <circle cx="8.2" cy="8.2" r="4" fill="var(--serving)" />
      <circle cx="27" cy="16" r="4" fill="var(--hop)" />
    </svg>
  );
}
