/** One thing that the doctor inspected. */
export interface Finding {
  level: 'ok' | 'warning' | 'problem';
  /** What was inspected: `timers`, `pm2`, `envoy`, … */
  topic: string;
  message: string;
  /** What to do; every warning and problem has one. */
  remedy?: string;
}

export function ok(topic: string, message: string): Finding {
  return { level: 'ok', topic, message };
}

export function warning(topic: string, message: string, remedy: string): Finding {
  return { level: 'warning', topic, message, remedy };
}

export function problem(topic: string, message: string, remedy: string): Finding {
  return { level: 'problem', topic, message, remedy };
}
