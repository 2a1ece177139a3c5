import { readdirSync, readFileSync } from 'node:fs';
import type { Sample } from './counters.js';

/** What this process uses, under the names that every Prometheus client gives it. */
export function processSamples(): Sample[] {
  const { rss, heapTotal, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  return [
    sample('process_cpu_seconds_total', (user + system) / 1e6),
    sample('process_resident_memory_bytes', rss),
    sample('process_start_time_seconds', performance.timeOrigin / 1_000),
    ...readable('process_open_fds', () => readdirSync('/proc/self/fd').length - 1),
    ...readable('process_max_fds', readMaxFiles),
    sample('nodejs_heap_size_total_bytes', heapTotal),
    sample('nodejs_heap_size_used_bytes', heapUsed),
    { ...sample('nodejs_version_info', 1), labels: { version: process.version } },
  ];
}

function readMaxFiles(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1]);
}

/** Only Linux has /proc, and no file may be left to open. */
function readable(name: string, read: () => number): Sample[] {
  try {
    const value = read();
    return Number.isFinite(value) ? [sample(name, value)] : [];
  } catch {
    return [];
  }
}

function sample(name: string, value: number): Sample {
  return { name, labels: {}, value };
}
