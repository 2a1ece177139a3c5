import { readdirSync, readFileSync } from 'node:fs';

/** Does nothing for a while. */
export function rest(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** How long some work takes. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  return (await milliseconds(work)) / 1_000;
}

/** How long some work takes. */
export async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

/** Asks every 2 ms until the answer is yes; what fails counts as no. */
export async function soon(what: string, check: () => unknown, withinMs = 15_000): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (performance.now() < endMs) {
    if (
      await Promise.resolve()
        .then(check)
        .catch(() => false)
    )
      return;
    await rest(2);
  }
  throw new Error(`waited ${withinMs} ms for ${what}`);
}

/** Resident memory of a process. */
export function residentMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1_024);
}

/** CPU that some processes use in a minute, all their threads, as the scheduler counts it. */
export function cpuMsPerMinute(pids: readonly number[], forMs: number): Promise<number> {
  return perMinute(forMs, () => {
    const tasks = pids.flatMap((pid) =>
      readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}`),
    );
    return tasks.reduce((sum, task) => sum + ranMs(task), 0);
  });
}

/** CPU that the main thread of a process uses in a minute: Envoy's admin interface runs in it. */
export function mainThreadMsPerMinute(pid: number, forMs: number): Promise<number> {
  return perMinute(forMs, () => ranMs(`/proc/${pid}/task/${pid}`));
}

/** The middle one, or halfway between the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const [low = Number.NaN, high = low] = [
    sorted[Math.ceil(sorted.length / 2) - 1],
    sorted[Math.floor(sorted.length / 2)],
  ];
  return (low + high) / 2;
}

async function perMinute(forMs: number, nowMs: () => number): Promise<number> {
  const before = nowMs();
  await rest(forMs);
  return ((nowMs() - before) * 60_000) / forMs;
}

/** A thread that has just ended counts for nothing. */
function ranMs(task: string): number {
  try {
    return Number(readFileSync(`${task}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
  } catch {
    return 0;
  }
}
