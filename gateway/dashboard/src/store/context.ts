/** The page's parts, handed down to its views. */
import { createContext, useContext, useSyncExternalStore } from "react";
import type { Api } from "../api/rest";
import type { State, Store } from "./store";

export interface Parts {
  store: Store;
  api: Api;
}

export const PartsContext = createContext<Parts | null>(null);

export function useParts(): Parts {
  const parts = useContext(PartsContext);
  if (!parts) {
    throw new Error("a view stands outside of <PartsContext>");
  }
  return parts;
}

export function useRing(): State {
  const { store } = useParts();
  return useSyncExternalStore(store.subscribe, store.get);
}
