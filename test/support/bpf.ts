/** What a reuseport program returns for a UDP packet, as the kernel would run it (Documentation/networking/filter). */
export function runFilter(filter: Buffer, payload: Buffer, ip: Buffer = Buffer.alloc(60)): number {
  let a = 0;
  let x = 0;
  const memory = new Map<number, number>();
  const bytes = (offset: number, count: number): number | undefined => {
    const from = offset >= 0xfff00000 ? ip : payload;
    const at = offset >= 0xfff00000 ? offset - 0xfff00000 : offset;
    return at + count <= from.length ? from.readUIntBE(at, count) : undefined;
  };
  for (let at = 0; at * 8 < filter.length; at += 1) {
    const code = filter.readUInt16LE(at * 8);
    const [yes, no] = [filter.readUInt8(at * 8 + 2), filter.readUInt8(at * 8 + 3)];
    const k = filter.readUInt32LE(at * 8 + 4);
    const load = (offset: number, count: number): boolean => {
      const value = bytes(offset, count);
      a = value ?? 0;
      return value !== undefined;
    };
    const jump = (holds: boolean): void => {
      at += holds ? yes : no;
    };
    switch (code) {
      case 0x20:
        if (!load(k, 4)) return 0;
        break;
      case 0x28:
        if (!load(k, 2)) return 0;
        break;
      case 0x30:
        if (!load(k, 1)) return 0;
        break;
      case 0x50:
        if (!load(x + k, 1)) return 0;
        break;
      case 0x80:
        a = payload.length;
        break;
      case 0x60:
        a = memory.get(k) ?? fault(`M[${k}] is read before it is set`);
        break;
      case 0x02:
        memory.set(k, a);
        break;
      case 0x07:
        x = a;
        break;
      case 0x04:
        a = (a + k) >>> 0;
        break;
      case 0x0c:
        a = (a + x) >>> 0;
        break;
      case 0x24:
        a = Math.imul(a, k) >>> 0;
        break;
      case 0x74:
        a >>>= k;
        break;
      case 0x94:
        a %= k;
        break;
      case 0x05:
        at += k;
        break;
      case 0x15:
        jump(a === k);
        break;
      case 0x35:
        jump(a >= k);
        break;
      case 0x45:
        jump((a & k) !== 0);
        break;
      case 0x06:
        return k;
      case 0x16:
        return a;
      default:
        fault(`unknown instruction ${code}`);
    }
  }
  return fault('the program runs over its end');
}

function fault(message: string): never {
  throw new Error(message);
}
