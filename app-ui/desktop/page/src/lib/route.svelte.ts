// The section that is shown; the hash of the address.

export const SECTIONS = [
  'now',
  'interfaces',
  'preference',
  'peers',
  'story',
  'data',
  'add',
  'invite',
  'drill',
  'settings',
] as const;
export type Section = (typeof SECTIONS)[number];

function read(): Section {
  const name = location.hash.replace(/^#\/?/, '');
  return (SECTIONS as readonly string[]).includes(name) ? (name as Section) : 'now';
}

let section = $state<Section>(read());

export const route = {
  get section() {
    return section;
  },
};

export function follow(): () => void {
  const changed = (): void => {
    section = read();
  };
  window.addEventListener('hashchange', changed);
  return () => window.removeEventListener('hashchange', changed);
}

/** Unknown names are ignored. */
export function go(name: string): void {
  if ((SECTIONS as readonly string[]).includes(name)) location.hash = `#/${name}`;
}
