import type { Generation, GenerationSlot } from '../host/generations.js';
import { isAlive } from '../host/process-identity.js';
import { firstByteOf } from './bootstrap-listeners.js';
import type { MarkedSlots } from './filter.js';
import type { Group, Routes } from './group.js';
import { type Place, readSteering } from './layout.js';

/** A group that this runner looks after. */
export interface Held {
  readonly group: Group;
  places: Place[];
}

/** Whether a place is one of these generations'. */
export function isOf(generations: readonly Generation[]): (place: Place | undefined) => boolean {
  return (place) => generations.some(({ number }) => place?.generation === number);
}

/** Where the packets of each generation go, of those that live. */
export function routesOf(places: readonly Place[], live: readonly Generation[]): Routes {
  const routes = live
    .filter(({ envoy }) => isAlive(envoy))
    .map((generation): MarkedSlots => {
      const mark = readSteering(generation)?.mark ?? null;
      const slots: number[] = [];
      for (const [slot, place] of places.entries()) {
        if (place?.generation === generation.number) slots[place.worker] = slot;
      }
      return { firstByte: mark === null ? undefined : firstByteOf(mark), slots };
    })
    .filter(({ slots }) => slots.length > 0);
  const newest = routes.at(-1);
  if (!newest) throw new Error('no socket of a generation is known');
  return [...routes.slice(0, -1), newest];
}

/**
 * Closes the fillers: those in front of the generation's sockets first, so that its last socket gets the place
 * of each. Meanwhile what is for that socket goes to a filler, where QUIC loses it and sends it again; a
 * datagram of a UDP proxy goes to another worker.
 */
export async function compact(
  held: Held,
  generation: Generation,
  isNewest: (slot: GenerationSlot) => boolean,
): Promise<void> {
  const { group } = held;
  const isOwn = isOf([generation]);
  const own = held.places.filter(isOwn).length;
  const first = held.places.findIndex(isOwn);
  const size = group.size();
  const numbers = Array.from({ length: size }, (_, at) => at).filter(
    (at) => at < first || at >= first + own,
  );
  const found = await group.find(numbers, routesOf(held.places, [generation]));
  if (found.size !== numbers.length) throw new Error('not every filler was found');
  if (!isNewest(generation) || group.size() !== size) return;
  const places: Place[] = Array.from({ length: size }, (_, at) => held.places[at] ?? null);
  const fillers = new Map(found);
  // Fillers at the end: nothing moves.
  const dropLast = (): void => {
    for (let last = fillers.get(places.length - 1); last; last = fillers.get(places.length - 1)) {
      fillers.delete(places.length - 1);
      if (fillers.size === 0) group.route(routesOf(places, [generation]));
      group.drop(last);
      places.pop();
    }
  };
  dropLast();
  for (let at = Math.min(first, own) - 1; at >= 0; at -= 1) {
    const filler = fillers.get(at);
    const last = places.length - 1;
    if (!filler || last === at || !isOwn(places[last])) continue;
    const moving = places[last] ?? null;
    const meanwhile = places.with(last, null);
    // The place is a filler's until it is closed, and the moved socket's then.
    const other = group.carries === 'udp' ? meanwhile.findIndex(isOwn) : -1;
    group.route(withShelter(meanwhile, moving, other < 0 ? at : other, generation));
    group.drop(filler);
    fillers.delete(at);
    places[at] = moving;
    places.pop();
    group.route(routesOf(places, [generation]));
    dropLast();
  }
  held.places = places;
}

function withShelter(
  places: readonly Place[],
  moving: Place,
  shelter: number,
  generation: Generation,
): Routes {
  const [newest] = routesOf([...places, moving], [generation]);
  const slots = [...newest.slots];
  if (moving) slots[moving.worker] = shelter;
  return [{ ...newest, slots }];
}
