// Words of the page. English is complete; another language may have gaps, which English fills.

import en from './en.json';

export type Key = keyof typeof en;
/** A text, or its plural forms by the rules of the language; `other` is always there. */
export type Text = string | Partial<Record<Intl.LDMLPluralRule, string>>;
export type Words = Partial<Record<Key, Text>>;
export type Params = Record<string, string | number>;

const languages = new Map<string, { name: string; words: Words }>([['en', { name: 'English', words: en }]]);
let current = $state('en');

export function addLanguage(code: string, name: string, words: Words): void {
  languages.set(code, { name, words });
}

export function allLanguages(): { code: string; name: string }[] {
  return [...languages].map(([code, { name }]) => ({ code, name }));
}

export function language(): string {
  return current;
}

/** An unknown language leaves English. */
export function setLanguage(code: string): void {
  current = languages.has(code) ? code : 'en';
}

/** Whether there is such a text. */
export function has(key: string): key is Key {
  return Object.hasOwn(en, key);
}

const ISOLATE = String.fromCharCode(0x2068);
const POP = String.fromCharCode(0x2069);

/** Names in a right-to-left script must not turn the sentence around them. */
function isolated(value: string | number): string {
  return typeof value === 'number' ? String(value) : `${ISOLATE}${value}${POP}`;
}

function form(code: string, text: Text, count: number): string {
  if (typeof text === 'string') return text;
  const rule = new Intl.PluralRules(code).select(count);
  return text[rule] ?? text.other ?? '';
}

/** `{name}` in the text is replaced; `count` chooses the plural. */
export function t(key: Key, params: Params = {}): string {
  const own = languages.get(current)?.words[key];
  const code = own === undefined ? 'en' : current;
  const text = form(code, own ?? (en as Record<Key, Text>)[key], Number(params['count'] ?? 0));
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = params[name];
    return value === undefined ? whole : isolated(value);
  });
}
