// Rules of a preference in words.

import type { InterfaceKind } from './api';
import { t } from './i18n/index.svelte';
import { kindName } from './names';
import type { Row } from './preference';

/** "Wi-Fi ‘Train’", "any Wi-Fi", or the network of a rule. */
export function rowName(row: Row): string {
  if (row.type === 'kind') return t('pref.any_kind', { kind: kindName(row.value as InterfaceKind) });
  if (row.type === 'network') return t('pref.network_named', { network: row.value });
  return row.interfaces[0]?.network ?? row.value;
}
