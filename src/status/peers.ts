import type { Connection } from '../host/sockets.js';

/** One of the oldest connections. */
export interface Peer {
  /** Address and port of the other side: `10.0.0.7:51234`. */
  peer: string;
  /** Address and port that it came to. */
  local: string;
  /** The Envoy that has it; null for one that pm2-envoy did not start. */
  generation: number | null;
  /** How long it has been seen; it may be older, by the time before anyone looked. */
  seenForMs: number;
}

const MOST = 10;

/** Remembers since when each connection of one Envoy has been there. */
export interface PeerBook {
  /** The oldest connections, oldest first. */
  oldest(connections: readonly Connection[], nowMs: number): Omit<Peer, 'generation'>[];
}

/** Creates an empty one. */
export function createPeerBook(): PeerBook {
  let known = new Map<number, number>();
  return {
    oldest: (connections, nowMs) => {
      known = new Map(connections.map(({ inode }) => [inode, known.get(inode) ?? nowMs]));
      const seenAt = ({ inode }: Connection): number => known.get(inode) ?? nowMs;
      return connections
        .toSorted((a, b) => seenAt(a) - seenAt(b) || a.inode - b.inode)
        .slice(0, MOST)
        .map((one) => ({
          peer: one.peer,
          local: one.local,
          seenForMs: Math.round(nowMs - seenAt(one)),
        }));
    },
  };
}

/** The oldest of several Envoys' connections. */
export function mergePeers(lists: readonly (readonly Peer[])[]): Peer[] {
  return lists
    .flat()
    .sort((a, b) => b.seenForMs - a.seenForMs)
    .slice(0, MOST);
}
