/** A value as `/metrics` shows it. */
export interface Sample {
  /** As in its line: of a histogram `NAME_bucket`, `NAME_sum` or `NAME_count`. */
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

/** Counts that only grow, each with a name and labels; cheap enough to be there before anyone asks. */
export interface Counters {
  add(name: string, labels?: Sample['labels'], by?: number): void;
  /** In the order in which they were first added to. */
  samples(): Sample[];
  /** What {@link restore} takes. */
  toJson(): Readonly<Record<string, number>>;
  /** Takes over what was saved of the counts that there are, where it is more; ignores anything else. */
  restore(json: unknown): void;
}

/** Creates counters; `zeros` are shown from the start, so that their first increase is seen as one. */
export function createCounters(zeros: readonly Omit<Sample, 'value'>[]): Counters {
  const counts = new Map<string, Sample>();
  const add: Counters['add'] = (name, labels = {}, by = 1) => {
    const key = keyOf(name, labels);
    const { value } = counts.get(key) ?? { value: 0 };
    counts.set(key, { name, labels, value: value + by });
  };
  for (const { name, labels } of zeros) add(name, labels, 0);
  return {
    add,
    samples: () => [...counts.values()],
    toJson: () => Object.fromEntries([...counts].map(([key, { value }]) => [key, value])),
    restore: (json) => {
      for (const [key, value] of Object.entries(json ?? {})) {
        const known = counts.get(key);
        if (known && isCount(value) && value > known.value) counts.set(key, { ...known, value });
      }
    },
  };
}

function keyOf(name: string, labels: Sample['labels']): string {
  return [name, ...Object.entries(labels).map(([label, value]) => `${label}=${value}`)].join(' ');
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}
