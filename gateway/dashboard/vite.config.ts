import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `npm run dev` shows the page before a gateway that runs elsewhere, for example the example `fake_ring`.
const gateway = process.env.GATEWAY ?? "http://127.0.0.1:8090";

export default defineConfig({
  // Relative: the gateway may serve the page below any path.
  base: "./",
  plugins: [react(), tailwindcss()],
  // Inlined fonts and pictures would be `data:` URLs, which the gateway's Content-Security-Policy refuses for fonts.
  build: { target: "es2023", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: { "/api": { target: gateway, ws: true } } },
  test: { include: ["src/**/*.test.ts"] },
});
