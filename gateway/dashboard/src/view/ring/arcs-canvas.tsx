import { memo, useEffect, useRef } from "react";
import { type Arc, inset, place, radians } from "../../domain/geometry";
import { flowsOf } from "../../domain/history";
import { claims } from "../../domain/motion";
import { arcOf, type Look } from "../../domain/ring";
import { type Size, turnsOf } from "../../domain/view";
import { outline, SHAPES } from "../parts/marker";
import type { ArcsProps } from "./arcs-svg";

interface Props extends ArcsProps {
  size: Size;
  animated: boolean;
  /** The canvas cannot see colours change; it is painted anew when this does. */
  theme: string;
}

/** The same picture for a thousand members and more. */
export const ArcsCanvas = memo(function ArcsCanvas({ size, animated, theme, ...props }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { posed, view, flowOf, selected, hovered, old } = props;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `theme` stands for the colours read from the page
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!canvas.current || !context) {
      return;
    }
    const ratio = Math.min(devicePixelRatio, 2);
    canvas.current.width = Math.round(size.width * ratio);
    canvas.current.height = Math.round(size.height * ratio);
    const colours = readColours(canvas.current);
    let frame = 0;
    const paint = (now: number) => {
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, size.width, size.height);
      context.translate(view.centre.x, view.centre.y);
      context.globalAlpha = old ? 0.5 : 1;
      const flows = paintRing(context, { posed, view, flowOf, selected, hovered, old }, colours, animated ? now : 0);
      if (flows && animated) {
        frame = requestAnimationFrame(paint);
      }
    };
    paint(performance.now());
    return () => cancelAnimationFrame(frame);
  }, [posed, view, flowOf, selected, hovered, old, size, animated, theme]);
  return <canvas ref={canvas} className="absolute inset-0 size-full" />;
});

type Colours = Record<Look | "band" | "band-other" | "paper" | "panel" | "hop", string>;

function readColours(element: Element): Colours {
  const style = getComputedStyle(element);
  const names = [...Object.keys(SHAPES), "band", "band-other", "paper", "panel", "hop"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) as Colours;
}

const signs = new Map<Look, Path2D>();
function sign(look: Look): Path2D {
  let path = signs.get(look);
  if (!path) {
    path = new Path2D(outline(look, 14));
    signs.set(look, path);
  }
  return path;
}

/** Whether anything in it moves by itself. */
function paintRing(context: CanvasRenderingContext2D, props: ArcsProps, colours: Colours, now: number): boolean {
  const { posed, view, flowOf, selected, hovered } = props;
  const gap = turnsOf(view, posed.length > 600 ? 0.4 : 1);
  const whole = context.globalAlpha;
  const stroke = ({ start, span }: Arc, radius: number) => {
    context.beginPath();
    context.arc(0, 0, radius, radians(start), radians(start + span));
    context.stroke();
  };
  context.lineWidth = view.band;
  const tones = new Map(posed.map((seat, at) => [seat.node.id, at]));
  for (const seat of [...posed].sort(claims)) {
    const isSelected = seat.node.id === selected;
    const serving = seat.look === "serving" && !isSelected;
    context.strokeStyle = serving
      ? colours[(tones.get(seat.node.id) ?? 0) % 2 === 0 ? "band" : "band-other"]
      : colours[seat.look];
    const strength = isSelected || serving ? 1 : seat.node.id === hovered ? 0.85 : 0.5;
    context.globalAlpha = whole * seat.presence * strength;
    stroke(inset(arcOf(seat), gap), view.radius);
  }
  let flows = false;
  context.globalAlpha = whole;
  context.strokeStyle = colours.hop;
  context.lineWidth = 3;
  context.lineCap = "round";
  context.setLineDash([0, 9]);
  for (const seat of posed) {
    const { incoming, outgoing, unclear } = flowsOf(flowOf(seat.node.id), seat.look);
    if (incoming || outgoing || unclear) {
      flows ||= !unclear;
      context.lineDashOffset = unclear ? 0 : ((incoming ? -now : now) / 50) % 9;
      const span = Math.max(seat.span, turnsOf(view, 24));
      stroke({ start: seat.turn - span, span }, view.radius - view.band / 2 - 7);
    }
  }
  context.setLineDash([]);
  for (const seat of posed) {
    const { filled, turned } = SHAPES[seat.look];
    const isPlain = seat.look === "serving" && seat.node.id !== selected;
    // Where members stand close, the few that are not well must still be seen.
    const size = isPlain ? view.sign : Math.max(view.sign * 1.3, 10);
    const { x, y } = place(seat.turn, view.radius);
    context.save();
    context.globalAlpha = whole * seat.presence;
    context.translate(x, y);
    if (turned !== null) {
      context.rotate(2 * Math.PI * (seat.turn + turned / 360));
    }
    context.scale(size / 14, size / 14);
    context.fillStyle = filled ? colours[seat.look] : colours.panel;
    context.strokeStyle = filled ? colours.paper : colours[seat.look];
    context.lineWidth = filled ? 2 : 3;
    context.fill(sign(seat.look));
    context.stroke(sign(seat.look));
    context.restore();
  }
  return flows;
}
