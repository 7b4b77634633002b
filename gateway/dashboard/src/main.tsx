import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { api } from "./api/rest";
import { Stream } from "./api/stream";
import { PartsContext } from "./store/context";
import { Store } from "./store/store";
import "./styles.css";
import { App } from "./view/app";

const root = document.getElementById("root");
if (!root) {
  throw new Error("index.html has no #root");
}
const base = new URL("api/v1/", document.baseURI).href;
const rest = api(base);
const store = new Store(rest);
const stream = new Stream(new URL("ws", base).href, store);
stream.start();
addEventListener("online", () => stream.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") {
    stream.hurry();
  }
});
createRoot(root).render(
  <StrictMode>
    <PartsContext value={{ store, api: rest }}>
      <App />
    </PartsContext>
  </StrictMode>,
);
