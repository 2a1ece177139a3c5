import { randomBytes } from 'node:crypto';
import { type Clock, until } from '../clock.js';
import { type Cookie, type MarkedSlots, quicFilter, type Slots, udpFilter } from './filter.js';
import type { Libc, SocketAddress } from './libc.js';
import { reachable, udpSockets } from './udp-sockets.js';

/** What a group's sockets carry. */
export type Carries = 'quic' | 'udp';

/** Whose connections have which places in the group, oldest first; the last one gets all new ones. */
export type Routes = readonly [...older: MarkedSlots[], newest: MarkedSlots];

/**
 * The sockets that share a UDP address (SO_REUSEPORT), as the kernel numbers them: a new one gets the
 * next number, and when one is closed, the last one gets its number. So that no Envoy's socket ever changes
 * its number without our doing, we keep sockets of our own at the end, *fillers*: as many as there are in
 * front of the newest generation's. No packet is sent to them.
 */
export interface Group {
  readonly key: string;
  readonly address: SocketAddress;
  readonly carries: Carries;
  /** How many sockets the group has now, ours too. */
  size(): number;
  /** How many of them are fillers of this process. */
  fillers(): number;
  /** Adds fillers, at the end. */
  fill(count: number): void;
  /** Has the kernel send packets along these routes from now on. */
  route(routes: Routes): void;
  /**
   * Which filler has which number, of those that are asked for: each gets a packet. Packets go along these routes
   * from now on.
   */
  find(numbers: readonly number[], routes: Routes): Promise<ReadonlyMap<number, Filler>>;
  /** Closes a filler; the last socket of the group gets its number. */
  drop(filler: Filler): void;
  /** Closes the rest of them. */
  close(): void;
}

/** A socket of ours in a group. */
export interface Filler {
  readonly fd: number;
}

const PROBE_LIMIT_MS = 1_000;

/** Opens the group of an address, without joining it yet. */
export function openGroup(options: {
  key: string;
  address: SocketAddress;
  carries: Carries;
  /** As the sockets that are there: one of the other kind makes a group of its own. */
  v6Only: boolean;
  libc: Libc;
  clock: Clock;
}): Group {
  const { key, address, carries, v6Only, libc, clock } = options;
  const fillers: Filler[] = [];
  const size = (): number => udpSockets()?.filter((socket) => socket.key === key).length ?? 0;

  const attach = (routes: Routes, cookie?: Cookie): void => {
    const filter =
      carries === 'quic' ? quicFilter(routes, cookie) : udpFilter(slotsOf(routes), cookie);
    const [any] = fillers;
    if (any) {
      libc.attach(any.fd, filter);
      return;
    }
    // The last to come is the last in the group: when it goes again, no other moves.
    const fd = libc.join(address, v6Only);
    try {
      libc.attach(fd, filter);
    } finally {
      libc.close(fd);
    }
  };
  const drop = (filler: Filler): void => {
    fillers.splice(fillers.indexOf(filler), 1);
    libc.close(filler.fd);
  };

  return {
    key,
    address,
    carries,
    size,
    fillers: () => fillers.length,
    fill: (count) => {
      for (let left = count; left > 0; left -= 1) fillers.push({ fd: libc.join(address, v6Only) });
    },
    route: (routes) => attach(routes),
    find: async (numbers, routes) => {
      const cookie = randomBytes(8);
      const to = reachable(address);
      attach(routes, cookie);
      for (const filler of fillers) while (libc.receive(filler.fd));
      for (const number of numbers) libc.send(to, Buffer.from([...cookie, number]));
      const found = new Map<number, Filler>();
      await until(
        () => {
          for (const filler of fillers) {
            for (let got = libc.receive(filler.fd); got; got = libc.receive(filler.fd)) {
              if (got.subarray(0, 8).equals(cookie)) found.set(got[8] ?? 0, filler);
            }
          }
          return found.size === numbers.length ? true : undefined;
        },
        { everyMs: 1, limitMs: PROBE_LIMIT_MS },
        clock,
      );
      // The program stays: a newer runner may have attached its own meanwhile.
      return found;
    },
    drop,
    close: () => {
      for (const filler of [...fillers].reverse()) drop(filler);
    },
  };
}

function slotsOf(routes: Routes): Slots {
  return routes.at(-1)?.slots ?? [];
}
