/** Figures and times in words. One locale, so that figures look the same on a wall and in a report. */
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const rough = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const NONE = "–";

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : whole.format(value);
}

/** Short: 12,345,678 is 12.3M. */
export function compact(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : value < 10_000 ? whole.format(value) : rough.format(value);
}

export function decimal(value: number | null | undefined, digits = 2): string {
  return value === null || value === undefined ? NONE : value.toFixed(digits);
}

export function rate(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : value > 0 && value < 10 ? value.toFixed(1) : compact(value);
}

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) {
    return NONE;
  }
  const power = value < 1024 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), BYTE_UNITS.length - 1);
  const scaled = value / 1024 ** power;
  return `${power === 0 || scaled >= 100 ? whole.format(scaled) : scaled.toPrecision(3)} ${BYTE_UNITS[power]}`;
}

/** A short time, given in microseconds. */
export function micros(value: number | null | undefined): string {
  if (value === null || value === undefined) {
    return NONE;
  }
  if (value < 1000) {
    return `${whole.format(value)} µs`;
  }
  const ms = value / 1000;
  return ms < 1000 ? `${ms < 100 ? ms.toPrecision(3) : whole.format(ms)} ms` : `${(ms / 1000).toPrecision(3)} s`;
}

/** A long time, given in milliseconds: its two largest units, where they are not 0. */
export function span(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) {
    return NONE;
  }
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const units: [string, number][] = [
    ["d", Math.floor(seconds / 86_400)],
    ["h", Math.floor(seconds / 3600) % 24],
    ["min", Math.floor(seconds / 60) % 60],
    ["s", seconds % 60],
  ];
  const from = units.findIndex(([, value]) => value > 0);
  const shown = from < 0 ? units.slice(-1) : units.slice(from, from + 2).filter(([, value]) => value > 0);
  return shown.map(([unit, value]) => `${value} ${unit}`).join(" ");
}

export function percent(share: number): string {
  const value = share * 100;
  if (value > 0 && value < 0.01) {
    return "< 0.01 %";
  }
  return `${value >= 99.95 || value === 0 ? whole.format(value) : value >= 1 ? value.toFixed(1) : value.toPrecision(2)} %`;
}

/** Time of day. */
export function clock(at: number): string {
  const date = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
