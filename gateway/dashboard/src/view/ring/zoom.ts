import { select } from "d3-selection";
import { type ZoomTransform, zoom, zoomIdentity } from "d3-zoom";
import { type RefObject, useEffect, useRef, useState } from "react";
import { NO_ZOOM, type Zoom } from "../../domain/view";

export interface Zooming {
  zoom: Zoom;
  /** Factor; around the middle. */
  by: (factor: number) => void;
  reset: () => void;
}

/** Wheel, drag and pinch on an element. One finger is left to the page, which may have to scroll. */
export function useZoom(element: RefObject<HTMLElement | null>, most: number): Zooming {
  const [shown, setShown] = useState<Zoom>(NO_ZOOM);
  const behaviour = useRef(zoom<HTMLElement, unknown>());
  useEffect(() => {
    if (!element.current) {
      return;
    }
    const node = select(element.current);
    behaviour.current
      .scaleExtent([1, most])
      .clickDistance(4)
      .filter((event: Event) => {
        const fingers = event instanceof TouchEvent ? event.touches.length : 2;
        return fingers > 1 && !(event instanceof MouseEvent && event.button !== 0);
      })
      .on("zoom", ({ transform: { k, x, y } }: { transform: ZoomTransform }) => {
        // Back at its full size, the circle is in the middle again.
        setShown(k === 1 ? NO_ZOOM : { k, x, y });
      });
    node.call(behaviour.current).on("dblclick.zoom", null);
    return () => void node.on(".zoom", null);
  }, [element, most]);
  const on = (act: (node: ReturnType<typeof select<HTMLElement, unknown>>) => void) => () => {
    if (element.current) {
      act(select<HTMLElement, unknown>(element.current));
    }
  };
  return {
    zoom: shown,
    by: (factor) => on((node) => behaviour.current.scaleBy(node, factor))(),
    reset: on((node) => behaviour.current.transform(node, zoomIdentity)),
  };
}
