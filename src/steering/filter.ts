/** One instruction of classic BPF: code, jump if true, jump if false, operand. */
type Instruction = readonly [code: number, yes: number, no: number, operand: number];
/** A place to jump to. */
interface Label {
  readonly label: string;
}
/** A jump to a label, however far away. */
interface Jump {
  readonly to: string;
}
type Line = Instruction | Label | Jump;

/** Where the sockets of one generation are in the port's group: the place of worker 0, of worker 1, … */
export type Slots = readonly number[];

/** The packets of one generation's QUIC connections, and where they go. */
export interface MarkedSlots {
  /** First byte of its connection ids; undefined: it has no mark of ours, all the rest is its. */
  readonly firstByte: number | undefined;
  readonly slots: Slots;
}

/** Has the kernel send a packet that begins with these 8 bytes to the place that its ninth byte names. */
export type Cookie = Buffer;

/** Total length of a connection id: shorter than the 8 bytes that a client has to choose for its first. */
export const CONNECTION_ID_BYTES = 7;

const LOAD_BYTE = 0x30;
const LOAD_HALF = 0x28;
const LOAD_WORD = 0x20;
const LOAD_BYTE_AT_X = 0x50;
const LOAD_LENGTH = 0x80;
const LOAD_MEMORY = 0x60;
const STORE = 0x02;
const TO_X = 0x07;
const ADD = 0x04;
const ADD_X = 0x0c;
const MULTIPLY = 0x24;
const SHIFT_RIGHT = 0x74;
const MODULO = 0x94;
const GO = 0x05;
const IF_EQUAL = 0x15;
const IF_AT_LEAST = 0x35;
const IF_ANY_BIT = 0x45;
const RETURN = 0x06;
const RETURN_A = 0x16;
/** Offsets from here on count from the IP header (linux/filter.h, SKF_NET_OFF). */
const IP_HEADER = 0xfff00000;
/** What the worker is found by. */
const WORKER = 1;

/**
 * The program that sends each QUIC packet to its generation and worker. Offsets are of the UDP payload.
 *
 * A packet with a short header, and one with a long header whose connection id has our length, name the
 * generation by the id's first byte and the worker by its last (quic_lb of Envoy). Anything else begins a
 * connection: the newest generation's. Clients choose at least 8 bytes for that (RFC 9000, 7.2).
 */
export function quicFilter(
  generations: readonly [...older: MarkedSlots[], newest: MarkedSlots],
  cookie?: Cookie,
): Buffer {
  const newest = generations.at(-1);
  const older = generations.slice(0, -1);
  const marked = older.filter(({ firstByte }) => firstByte !== undefined);
  const unmarked = older.find(({ firstByte }) => firstByte === undefined);
  const rest = unmarked ? 'unmarked' : 'newest';
  return assemble([
    [LOAD_LENGTH, 0, 0, 0],
    ...unless([IF_AT_LEAST, 9], 'odd'),
    ...probeLines(cookie),
    [LOAD_BYTE, 0, 0, 0],
    ...when([IF_ANY_BIT, 0x80], 'long'),
    [LOAD_BYTE, 0, 0, CONNECTION_ID_BYTES],
    [STORE, 0, 0, WORKER],
    [LOAD_BYTE, 0, 0, 1],
    { to: 'match' },
    { label: 'long' },
    [LOAD_LENGTH, 0, 0, 0],
    ...unless([IF_AT_LEAST, 14], 'odd'),
    [LOAD_BYTE, 0, 0, 5],
    ...when([IF_EQUAL, CONNECTION_ID_BYTES], 'ours'),
    // The client's own id: its last byte is as good as any for choosing a worker.
    [ADD, 0, 0, 5],
    [TO_X, 0, 0, 0],
    [LOAD_BYTE_AT_X, 0, 0, 0],
    [STORE, 0, 0, WORKER],
    ...(unmarked ? handshakeLines() : []),
    { to: 'newest' },
    { label: 'ours' },
    [LOAD_BYTE, 0, 0, 5 + CONNECTION_ID_BYTES],
    [STORE, 0, 0, WORKER],
    [LOAD_BYTE, 0, 0, 6],
    { label: 'match' },
    ...marked.flatMap(({ firstByte = 0 }, index) => when([IF_EQUAL, firstByte], `older ${index}`)),
    ...(newest?.firstByte === undefined ? [] : when([IF_EQUAL, newest.firstByte], 'newest')),
    { to: rest },
    { label: 'odd' },
    [LOAD_LENGTH, 0, 0, 0],
    [STORE, 0, 0, WORKER],
    { label: 'newest' },
    ...toWorker(newest?.slots ?? []),
    ...marked.flatMap(({ slots }, index) => [{ label: `older ${index}` }, ...toWorker(slots)]),
    ...(unmarked ? unmarkedLines(unmarked.slots) : []),
  ]);
}

/** The program that sends all datagrams to one generation, those of one source to the same worker. */
export function udpFilter(slots: Slots, cookie?: Cookie): Buffer {
  return assemble([
    [LOAD_LENGTH, 0, 0, 0],
    ...unless([IF_AT_LEAST, 9], 'flow'),
    ...probeLines(cookie),
    { label: 'flow' },
    [LOAD_BYTE, 0, 0, IP_HEADER],
    [SHIFT_RIGHT, 0, 0, 4],
    ...when([IF_EQUAL, 6], 'v6'),
    [LOAD_WORD, 0, 0, IP_HEADER + 12],
    [TO_X, 0, 0, 0],
    [LOAD_HALF, 0, 0, IP_HEADER + 20],
    { to: 'mix' },
    { label: 'v6' },
    [LOAD_WORD, 0, 0, IP_HEADER + 20],
    [TO_X, 0, 0, 0],
    [LOAD_HALF, 0, 0, IP_HEADER + 40],
    { label: 'mix' },
    [ADD_X, 0, 0, 0],
    [MULTIPLY, 0, 0, 0x9e3779b1],
    [SHIFT_RIGHT, 0, 0, 16],
    [STORE, 0, 0, WORKER],
    ...toWorker(slots),
  ]);
}

/**
 * The seccomp filter under which attaching a program to a port's group succeeds without doing anything:
 * Envoy attaches its own to each QUIC socket, and would send all packets to the sockets of another
 * generation, or of another worker, until it has been replaced.
 *
 * @param arch `process.arch`; undefined is returned for one whose system calls are not known here
 */
export function attachNothingFilter(arch: string): Buffer | undefined {
  const call = { x64: [0xc000003e, 54], arm64: [0xc00000b7, 208] }[arch];
  if (!call) return undefined;
  const [audit = 0, setsockopt = 0] = call;
  const ALLOW = 0x7fff0000;
  const SUCCEED = 0x00050000;
  // struct seccomp_data: nr at 0, arch at 4, the arguments at 16, 8 bytes each.
  return assemble([
    [LOAD_WORD, 0, 0, 4],
    ...unless([IF_EQUAL, audit], 'allow'),
    [LOAD_WORD, 0, 0, 0],
    ...unless([IF_EQUAL, setsockopt], 'allow'),
    [LOAD_WORD, 0, 0, 24],
    ...unless([IF_EQUAL, SOL_SOCKET], 'allow'),
    [LOAD_WORD, 0, 0, 32],
    ...unless([IF_EQUAL, SO_ATTACH_REUSEPORT_CBPF], 'allow'),
    [RETURN, 0, 0, SUCCEED],
    { label: 'allow' },
    [RETURN, 0, 0, ALLOW],
  ]);
}

/** asm-generic/socket.h: of x64 and arm64. */
export const SOL_SOCKET = 1;
export const SO_REUSEPORT = 15;
export const SO_ATTACH_REUSEPORT_CBPF = 51;

function probeLines(cookie: Cookie | undefined): Line[] {
  if (!cookie) return [];
  return [
    [LOAD_WORD, 0, 0, 0],
    ...unless([IF_EQUAL, cookie.readUInt32BE(0)], 'no probe'),
    [LOAD_WORD, 0, 0, 4],
    ...unless([IF_EQUAL, cookie.readUInt32BE(4)], 'no probe'),
    [LOAD_BYTE, 0, 0, 8],
    [RETURN_A, 0, 0, 0],
    { label: 'no probe' },
  ];
}

/** A Handshake packet: of a connection that was begun with the generation without marks. */
function handshakeLines(): Line[] {
  return [[LOAD_BYTE, 0, 0, 0], ...when([IF_ANY_BIT, 0x20], 'unmarked')];
}

/** As Envoy's own generator of connection ids has it: the first word modulo the number of workers. */
function unmarkedLines(slots: Slots): Line[] {
  return [
    { label: 'unmarked' },
    [LOAD_BYTE, 0, 0, 0],
    ...when([IF_ANY_BIT, 0x80], 'unmarked long'),
    [LOAD_WORD, 0, 0, 1],
    { to: 'unmarked worker' },
    { label: 'unmarked long' },
    [LOAD_WORD, 0, 0, 6],
    { label: 'unmarked worker' },
    [STORE, 0, 0, WORKER],
    ...toWorker(slots),
  ];
}

function toWorker(slots: Slots): Line[] {
  const [first = 0] = slots;
  const inARow = slots.every((slot, worker) => slot === first + worker);
  const choice: Line[] = inARow
    ? [
        [ADD, 0, 0, first],
        [RETURN_A, 0, 0, 0],
      ]
    : slots.flatMap((slot, worker): Line[] => [
        [IF_EQUAL, 0, 1, worker],
        [RETURN, 0, 0, slot],
      ]);
  return [
    [LOAD_MEMORY, 0, 0, WORKER],
    [MODULO, 0, 0, Math.max(1, slots.length)],
    ...choice,
    ...(inARow ? [] : ([[RETURN, 0, 0, first]] satisfies Line[])),
  ];
}

function when([code, operand]: readonly [number, number], to: string): Line[] {
  return [[code, 0, 1, operand], { to }];
}

function unless([code, operand]: readonly [number, number], to: string): Line[] {
  return [[code, 1, 0, operand], { to }];
}

/** As `struct sock_filter[]`, in the byte order of x64 and arm64. */
function assemble(lines: readonly Line[]): Buffer {
  const places = new Map<string, number>();
  let count = 0;
  for (const line of lines) {
    if ('label' in line) places.set(line.label, count);
    else count += 1;
  }
  const code = Buffer.alloc(count * 8);
  let at = 0;
  for (const line of lines) {
    if ('label' in line) continue;
    const [operation, yes, no, operand] =
      'to' in line ? [GO, 0, 0, placeOf(line.to, places) - at - 1] : line;
    code.writeUInt16LE(operation, at * 8);
    code.writeUInt8(yes, at * 8 + 2);
    code.writeUInt8(no, at * 8 + 3);
    code.writeUInt32LE(operand >>> 0, at * 8 + 4);
    at += 1;
  }
  return code;
}

function placeOf(label: string, places: ReadonlyMap<string, number>): number {
  const place = places.get(label);
  if (place === undefined) throw new TypeError(`no such label: ${label}`);
  return place;
}
