import { rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GenerationSlot } from './generations.js';

/** Longer than any redeploy waits for its new generation. */
const VALID_MS = 10 * 60_000;

/**
 * Accepts that the generation which replaces this one lacks listeners that this one has, for ten minutes. It
 * lies in the folder of the generation that is replaced, and goes with it.
 */
export function acceptRemovals(generation: GenerationSlot): void {
  writeFileSync(fileIn(generation), '', { mode: 0o600 });
}

/** Takes {@link acceptRemovals} back. */
export function forgetAcceptance(generation: GenerationSlot): void {
  rmSync(fileIn(generation), { force: true });
}

/** Whether {@link acceptRemovals} holds. */
export function areRemovalsAccepted(generation: GenerationSlot): boolean {
  const at = statSync(fileIn(generation), { throwIfNoEntry: false });
  return at !== undefined && Math.abs(Date.now() - at.mtimeMs) < VALID_MS;
}

function fileIn({ directory }: GenerationSlot): string {
  return join(directory, 'removals-accepted');
}
