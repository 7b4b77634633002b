/** Where the circle lies in a drawing of some size, and what of it there is room for. */
import { type Point, turnAt } from "./geometry";

export interface Size {
  width: number;
  height: number;
}

/** As d3-zoom has it: a point p of the drawing is shown at k·p + (x, y). */
export interface Zoom {
  k: number;
  x: number;
  y: number;
}

export interface View {
  /** The centre, in pixels from the top left. */
  centre: Point;
  /** Of the circle on which members sit: the middle of the band of arcs. */
  radius: number;
  /** Width of the band. */
  band: number;
  /** Diameter of a member's sign. */
  sign: number;
  /** Which names fit around it. */
  labels: "full" | "short" | "none";
}

export const NO_ZOOM: Zoom = { k: 1, x: 0, y: 0 };
/** Pixels a letter of a label takes, about. */
const LETTER = 7.4;
/** Between the circle and its labels. */
export const LABEL_GAP = 36;

export function viewOf(size: Size, zoom: Zoom, names: { count: number; full: number; short: number }): View {
  const { width, height } = size;
  const tall = height / 2 - 50;
  const besides = (letters: number) => width / 2 - LABEL_GAP - 10 - letters * LETTER;
  // Names stand beside the circle, so they cost width: only as much of it as leaves the circle large.
  const fits = (letters: number, most: number) => names.count <= most && besides(letters) >= Math.min(tall, 100);
  const labels = fits(names.full, 24) ? "full" : fits(names.short, 64) ? "short" : "none";
  const wide = labels === "none" ? width / 2 - 28 : besides(labels === "full" ? names.full : names.short);
  const radius = Math.max(Math.min(tall, wide), 60) * zoom.k;
  const centre = { x: zoom.k * (width / 2) + zoom.x, y: zoom.k * (height / 2) + zoom.y };
  const crowd = (2 * Math.PI * radius) / Math.max(names.count, 1);
  const band = Math.min(Math.max(radius * 0.06, 9), 22);
  return { centre, radius, band, sign: Math.min(Math.max(crowd * 0.6, 3), 14), labels };
}

/** The turn that a place in the drawing means, if it is near enough to the circle. */
export function turnNear(view: View, at: Point): number | null {
  const from = { x: at.x - view.centre.x, y: at.y - view.centre.y };
  const off = Math.hypot(from.x, from.y) - view.radius;
  return off > -view.band * 2.2 && off < view.band + 40 ? turnAt(from) : null;
}

/** Pixels along the circle, as turns. */
export function turnsOf(view: View, pixels: number): number {
  return pixels / (2 * Math.PI * view.radius);
}
