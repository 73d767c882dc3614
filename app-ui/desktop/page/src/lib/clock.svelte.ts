// The time, each second, while somebody looks: no timer runs for a hidden window or without a reader.

import { createSubscriber } from 'svelte/reactivity';

const subscribe = createSubscriber((update) => {
  let timer: ReturnType<typeof setInterval> | undefined;
  const follow = (): void => {
    clearInterval(timer);
    timer = document.visibilityState === 'visible' ? setInterval(update, 1000) : undefined;
    update();
  };
  document.addEventListener('visibilitychange', follow);
  follow();
  return () => {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', follow);
  };
});

export function secondNow(): number {
  subscribe();
  return Date.now();
}
