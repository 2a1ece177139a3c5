import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { endianness } from 'node:os';
import { systemCodeOf } from '../errors.js';

/** One TCP connection from a peer to a process. */
export interface Connection {
  /** `10.0.0.7:51234`, `[2001:db8::7]:51234` */
  peer: string;
  local: string;
  localPort: number;
  /** The kernel's number of the socket: a later connection nearly always has a higher one. */
  inode: number;
}

/**
 * Lists a process's TCP connections on the given local ports, from /proc. Linux only; undefined where
 * it can't be read. With 5,000 connections it takes some 40 ms of this process.
 *
 * @param pid the process, in our PID namespace and readable by us
 * @param localPorts the ports that it listens, or listened, on
 */
export function listConnections(
  pid: number,
  localPorts: readonly number[],
): Connection[] | undefined {
  try {
    // First of all: without this, no row would mean that nothing could be seen.
    const inodes = socketInodes(pid);
    const rows = ['tcp', 'tcp6'].flatMap((table) =>
      readTable(`/proc/${pid}/net/${table}`, localPorts),
    );
    return rows.filter(({ inode }) => inodes.has(inode));
  } catch {
    return undefined;
  }
}

/** One address of a listener, and the name that its connections are counted under. */
export interface CountedAddress {
  kind: 'ip' | 'unix' | 'abstract' | 'internal';
  /** `127.0.0.1:10000`, `[::]:80`, a path, `@name` */
  text: string;
  countedAs: string;
}

/** What the kernel shows of a process's listeners. */
export interface SocketCount {
  byListener: Record<string, number>;
  /** Addresses with a UDP socket: what comes over it, HTTP/3 as well, has no socket of its own. */
  udp: readonly string[];
}

/**
 * Counts the connections on the addresses given: what is left where Envoy's own gauges are hidden.
 * Undefined, where it can't be seen, is not 0.
 */
export function countSockets(
  pid: number,
  addresses: readonly CountedAddress[],
): SocketCount | undefined {
  const ports = addresses.filter(({ kind }) => kind === 'ip').map(({ text }) => portOf(text));
  const connections = listConnections(pid, ports);
  if (!connections) return undefined;
  try {
    const inodes = socketInodes(pid);
    const paths = new Map(addresses.map(({ text, countedAs }) => [text, countedAs]));
    const names = [
      ...connections.map((connection) => nameOf(connection, addresses)),
      ...unixConnections(pid, inodes).flatMap((path) => paths.get(path) ?? []),
    ];
    const byListener: Record<string, number> = {};
    for (const name of names) byListener[name] = (byListener[name] ?? 0) + 1;
    return { byListener, udp: udpAddresses(pid, { ports, inodes }) };
  } catch {
    return undefined;
  }
}

/** The listener on exactly this address, or on all of them, or at least on this port. */
function nameOf({ local, localPort }: Connection, addresses: readonly CountedAddress[]): string {
  const onPort = addresses.filter(({ kind, text }) => kind === 'ip' && portOf(text) === localPort);
  const found =
    onPort.find(({ text }) => text === local) ??
    onPort.find(({ text }) => /^(0\.0\.0\.0|\[::\]):/.test(text)) ??
    onPort[0];
  return found?.countedAs ?? `port ${localPort}`;
}

function portOf(text: string): number {
  return Number(text.slice(text.lastIndexOf(':') + 1));
}

/** Flags are field 4 (__SO_ACCEPTCON, 10000 hex, listens), the inode field 7, then the path that was bound. */
const UNIX_ROW = /^[0-9a-f]+: \w+ \w+ (\w{8}) \w+ \w+ +(\d+) (.+)$/gm;

/** The bound paths of the unix connections that a process has accepted, one for each. */
function unixConnections(pid: number, inodes: ReadonlySet<number>): string[] {
  const paths: string[] = [];
  for (const row of readFileSync(`/proc/${pid}/net/unix`, 'latin1').matchAll(UNIX_ROW)) {
    const [, flags = '', inode, path = ''] = row;
    const isListening = (Number.parseInt(flags, 16) & 0x10000) !== 0;
    if (!isListening && inodes.has(Number(inode))) paths.push(path);
  }
  return paths;
}

function udpAddresses(
  pid: number,
  own: { ports: readonly number[]; inodes: ReadonlySet<number> },
): string[] {
  const rows = ['udp', 'udp6'].flatMap((table) =>
    readTable(`/proc/${pid}/net/${table}`, own.ports),
  );
  return [...new Set(rows.filter(({ inode }) => own.inodes.has(inode)).map(({ local }) => local))];
}

/** Whether anyone listens on, or is connected to, the unix socket that was bound to this path. */
export function isBound(path: string): boolean | undefined {
  try {
    return readFileSync('/proc/net/unix', 'latin1').includes(` ${path}\n`);
  } catch {
    return undefined;
  }
}

/**
 * The addresses that a process listens on, as `tcp 127.0.0.1:80` and `udp [::1]:443`, from /proc.
 * Undefined where they can't be read. A UDP socket with a peer of its own is not one of them.
 */
export function listeningSockets(pid: number): ReadonlySet<string> | undefined {
  try {
    const inodes = socketInodes(pid);
    const found = new Set<string>();
    for (const [table, protocol, listening] of LISTENING) {
      for (const row of tableText(`/proc/${pid}/net/${table}`).matchAll(ROW)) {
        const [, address = '', port = '', , , state, inode] = row;
        if (state !== listening || !inodes.has(Number(inode))) continue;
        found.add(`${protocol} ${endpoint(address, Number.parseInt(port, 16))}`);
      }
    }
    return found;
  } catch {
    return undefined;
  }
}

/** TCP_LISTEN; a UDP socket without a peer has the state TCP_CLOSE. */
const LISTENING = [
  ['tcp', 'tcp', '0A'],
  ['tcp6', 'tcp', '0A'],
  ['udp', 'udp', '07'],
  ['udp6', 'udp', '07'],
] as const;

/** The kernel's numbers of the sockets that a process has open. */
export function socketInodes(pid: number): Set<number> {
  const inodes = new Set<number>();
  for (const descriptor of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const link = readlinkSync(`/proc/${pid}/fd/${descriptor}`);
      if (link.startsWith('socket:[')) inodes.add(Number(link.slice('socket:['.length, -1)));
    } catch {
      // Closed while we looked.
    }
  }
  return inodes;
}

/** Local and remote address are fields 2 and 3 (hex), the state field 4 (0A listens), the inode field 10. */
const ROW =
  /^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]{2}) \S+ \S+ \S+ +\d+ +\d+ (\d+)/gm;

/** The TCP sockets that listen, in the network namespace of a process. */
export function listening(pid: number): { local: string; port: number; inode: number }[] {
  return ['tcp', 'tcp6'].flatMap((table) =>
    [...tableText(`/proc/${pid}/net/${table}`).matchAll(ROW)]
      .filter(([, , , , , state]) => state === '0A')
      .map(([, address = '', hexPort = '', , , , inode]) => {
        const port = Number.parseInt(hexPort, 16);
        return { local: endpoint(address, port), port, inode: Number(inode) };
      }),
  );
}

function readTable(path: string, localPorts: readonly number[]): Connection[] {
  return connectionsIn(tableText(path), localPorts);
}

/**
 * The sockets in a table of /proc/net on the given local ports, without the listening ones. Each once: the
 * kernel may hand out a row again while connections come and go between two reads of the file. Pure.
 */
export function connectionsIn(table: string, localPorts: readonly number[]): Connection[] {
  const ports = new Set(localPorts);
  const found = new Map<number, Connection>();
  for (const row of table.matchAll(ROW)) {
    const [, localAddress = '', hexPort = '', peerAddress = '', peerPort = '', state, inode] = row;
    const localPort = Number.parseInt(hexPort, 16);
    if (state === '0A' || !ports.has(localPort)) continue;
    found.set(Number(inode), {
      peer: endpoint(peerAddress, Number.parseInt(peerPort, 16)),
      local: endpoint(localAddress, localPort),
      localPort,
      inode: Number(inode),
    });
  }
  return [...found.values()];
}

/** A host without IPv6 has no table of it. */
function tableText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if (path.endsWith('6') && systemCodeOf(error) === 'ENOENT') return '';
    throw error;
  }
}

/** The kernel prints an address as words of 32 bits in the byte order of this machine. */
function endpoint(hex: string, port: number): string {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) =>
    endianness() === 'LE' ? Buffer.from(word, 'hex').reverse() : Buffer.from(word, 'hex'),
  );
  const address = Buffer.concat(bytes);
  const isMapped = address.length === 16 && address.subarray(0, 12).toString('hex') === MAPPED;
  if (address.length === 4 || isMapped) return `${[...address.subarray(-4)].join('.')}:${port}`;
  const groups = address.toString('hex').match(/.{4}/g) ?? [];
  // The WHATWG parser writes IPv6 in its short form.
  return `${new URL(`http://[${groups.join(':')}]`).hostname}:${port}`;
}

const MAPPED = '00000000000000000000ffff';
