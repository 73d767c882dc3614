// The order shown in automatic mode. It holds still while the user looks at it, and while it is overruled.

import type { Policy, Status } from './api';
import { carriers } from './names';
import { automaticOrder } from './preference';

let order = $state.raw<string[]>([]);

export const shownOrder = {
  get names() {
    return order;
  },
};

/** To be called when the section opens. */
export function refreshOrder(status: Status, policy: Policy | null): void {
  if (order.length === 0 || policy === null || policy.mode !== 'pin') {
    order = automaticOrder(status.interfaces, carriers(status));
  }
}
