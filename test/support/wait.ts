/** Asks `check` until it gives something truthy; fails after `withinMs`, saying what it waited for. */
export async function eventually<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
  withinMs = 15_000,
): Promise<T> {
  const deadline = Date.now() + withinMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await check();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      throw new Error(`waited ${withinMs} ms for ${what}; last: ${String(last)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The same for what starts processes: on a machine that is busy that takes long. */
export function patiently<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  return eventually(what, check, 60_000);
}

/** Lets `ms` pass while something under test goes on; never to wait for a result. */
export function letPass(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
