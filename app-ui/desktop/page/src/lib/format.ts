// Numbers in words that keep their width.

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Three significant figures at most, decimal units: "0 B", "999 B", "1.2 kB", "12.3 MB", "123 MB". */
export function bytes(n: number): string {
  if (!Number.isFinite(n) || n < 0) return '–';
  let value = n;
  let unit = 0;
  while (unit < UNITS.length - 1 && value >= (unit === 0 ? 1000 : 999.5)) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function rate(bytesPerSecond: number): string {
  return `${bytes(bytesPerSecond)}/s`;
}

/** "0.4 ms", "34 ms", "1.2 s", "5 s". */
export function millis(ms: number | null): string {
  if (ms === null || !Number.isFinite(ms)) return '–';
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  return s < 9.95 && Math.abs(s - Math.round(s)) >= 0.05 ? `${s.toFixed(1)} s` : duration(ms);
}

/** 0 to 1, as "0 %", "0.4 %", "12 %". */
export function percent(share: number | null): string {
  if (share === null || !Number.isFinite(share)) return '–';
  const p = share * 100;
  if (p > 0 && p < 0.05) return '< 0.1 %';
  return `${p > 0 && p < 9.95 ? p.toFixed(1) : Math.round(p)} %`;
}

/** "5 s", "1 min 5 s", "2 h 3 min", "3 d 4 h". */
export function duration(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return s % 60 === 0 ? `${m} min` : `${m} min ${s % 60} s`;
  const h = Math.floor(m / 60);
  if (h < 24) return m % 60 === 0 ? `${h} h` : `${h} h ${m % 60} min`;
  return h % 24 === 0 ? `${Math.floor(h / 24)} d` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

const two = (n: number): string => String(n).padStart(2, '0');

/** Local time of day; "--:--" for what is no time. */
export function clock(time: string | number, seconds = false): string {
  const d = new Date(time);
  if (Number.isNaN(d.getTime())) return seconds ? '--:--:--' : '--:--';
  const text = `${two(d.getHours())}:${two(d.getMinutes())}`;
  return seconds ? `${text}:${two(d.getSeconds())}` : text;
}

/** The day, where it is not today: "23 Nov". */
export function day(time: string | number, now: number, language: string): string {
  const d = new Date(time);
  if (Number.isNaN(d.getTime()) || d.toDateString() === new Date(now).toDateString()) return '';
  return new Intl.DateTimeFormat(language, { day: 'numeric', month: 'short' }).format(d);
}

/** `2026-11` as "November 2026". */
export function month(text: string, language: string): string {
  const match = /^(\d{4})-(\d{2})$/.exec(text);
  if (!match) return text;
  const d = new Date(Number(match[1]), Number(match[2]) - 1, 1);
  return new Intl.DateTimeFormat(language, { month: 'long', year: 'numeric' }).format(d);
}
