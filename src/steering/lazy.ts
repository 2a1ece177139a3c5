import type { Generations } from '../host/generations.js';
import type { Log } from '../log.js';
import { mayHaveUdp } from './bootstrap-text.js';
import { readSteering } from './layout.js';
import type { Steering } from './steering.js';

/** The steering of one runner, which is loaded where there is something to steer only. */
export function createLazySteering(options: {
  generations: Generations;
  runDir: string;
  log: Log;
}): Steering {
  let loading: Promise<Steering> | undefined;
  const load = (): Promise<Steering> => {
    loading ??= import('./steering.js').then(({ createSteering }) => createSteering(options));
    return loading;
  };
  return {
    prepare: async (slot, from) =>
      mayHaveUdp(from.bootstrap) ? (await load()).prepare(slot, from) : undefined,
    takeOver: async (generation) => (await loading)?.takeOver(generation),
    adopt: async (generation) => {
      if (readSteering(generation)) await (await load()).adopt(generation);
    },
    close: () => void loading?.then((steering) => steering.close()),
  };
}
