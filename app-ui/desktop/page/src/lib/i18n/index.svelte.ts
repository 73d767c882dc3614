// Words of the page: what stands on it whatever the service says. What is said of the service's state is said by the app,
// in one place with the command line.

import en from './en.json';

export type Key = keyof typeof en;
/** A text, or its plural forms; `other` is always there. */
export type Text = string | Partial<Record<Intl.LDMLPluralRule, string>>;
export type Params = Record<string, string | number>;

export const LANGUAGE = 'en';
const rules = new Intl.PluralRules(LANGUAGE);

const ISOLATE = String.fromCharCode(0x2068);
const POP = String.fromCharCode(0x2069);

/** Names in a right-to-left script must not turn the sentence around them. */
function isolated(value: string | number): string {
  return typeof value === 'number' ? String(value) : `${ISOLATE}${value}${POP}`;
}

function form(text: Text, count: number): string {
  if (typeof text === 'string') return text;
  return text[rules.select(count)] ?? text.other ?? '';
}

/** `{name}` in the text is replaced; `count` chooses the plural. */
export function t(key: Key, params: Params = {}): string {
  const text = form((en as Record<Key, Text>)[key], Number(params['count'] ?? 0));
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = params[name];
    return value === undefined ? whole : isolated(value);
  });
}
