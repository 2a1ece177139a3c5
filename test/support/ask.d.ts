/** What to ask; 127.0.0.1, GET and / unless told otherwise. */
export interface Question {
  host?: string;
  port: number;
  method?: string;
  path?: string;
  headers?: Readonly<Record<string, string>>;
  body?: string;
  /** How long the answer may take; 30 s unless told otherwise. */
  limitMs?: number;
}

/** An answer; `status` 0 and `error` when there is none. */
export interface Answer {
  status: number;
  headers: Readonly<Record<string, string | undefined>>;
  body: string;
  error?: string;
}

/** One HTTP request on a connection of its own; never rejects. */
export function ask(question: Question): Promise<Answer>;
