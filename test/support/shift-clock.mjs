// Shifts the wall clock of the process that imports it by as many milliseconds as the file named in
// SHIFT_FILE holds; the monotonic clock goes on as it is.
import { readFileSync } from 'node:fs';

const RealDate = Date;
const offsetMs = () => {
  try {
    return Number(readFileSync(process.env.SHIFT_FILE, 'utf8'));
  } catch {
    return 0;
  }
};
globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + offsetMs());
    else super(...args);
  }
  static now() {
    return RealDate.now() + offsetMs();
  }
};
