import { attachNothingFilter } from './filter.js';
import { loadLibc } from './libc.js';

/**
 * What the runner starts in Envoy's place: puts the filter on itself, and becomes Envoy, with the same pid.
 * Arguments: the binary, and Envoy's. Without the filter Envoy runs all the same; the runner sees that.
 */
const [binary = '', ...args] = process.argv.slice(2);
const libc = await loadLibc();
const filter = attachNothingFilter(process.arch);
try {
  if (filter) libc.restrict(filter);
} catch (error) {
  console.error(`no seccomp filter: ${error instanceof Error ? error.message : error}`);
}
libc.exec(binary, args);
