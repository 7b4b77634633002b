/** The address bar as a store. */
import { useSyncExternalStore } from "react";
import { formatRoute, parseRoute, type Route } from "../domain/route";

/** Ends with `/`; the gateway writes it into the page. */
const base = () => new URL(document.baseURI);

const watchers = new Set<() => void>();
const tell = () => {
  for (const watcher of watchers) {
    watcher();
  }
};

/** Goes to a view; `replace` leaves no step to come back to. */
export function go(route: Route, how: "push" | "replace" = "push"): void {
  const url = hrefOf(route);
  if (url === location.href) {
    return;
  }
  history[how === "push" ? "pushState" : "replaceState"](null, "", url);
  tell();
}

export function hrefOf(route: Route): string {
  return new URL(formatRoute(route), base()).href;
}

let current: { href: string; route: Route } | null = null;
function read(): Route {
  if (current?.href !== location.href) {
    const path = location.pathname.slice(base().pathname.length);
    current = { href: location.href, route: parseRoute(path, location.search) };
  }
  return current.route;
}

function subscribe(watcher: () => void): () => void {
  watchers.add(watcher);
  addEventListener("popstate", watcher);
  return () => {
    watchers.delete(watcher);
    removeEventListener("popstate", watcher);
  };
}

export function useRoute(): Route {
  return useSyncExternalStore(subscribe, read);
}
