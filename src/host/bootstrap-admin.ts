/** Where a bootstrap has its admin interface listen. */
export type BootstrapAddress =
  | { host: string; port: number; ipv6Only: boolean }
  /** `@NAME` is an abstract socket. */
  | { path: string; mode: number | undefined };

/** What a bootstrap says of Envoy's admin interface, as Envoy reads it. */
export interface BootstrapAdmin {
  /** Undefined: the bootstrap names none, or one with a port that Envoy chooses. */
  address: BootstrapAddress | undefined;
  /** `admin.allow_paths`: the only paths that may be asked; empty: all. */
  allowPaths: readonly PathRule[];
}

/** One entry of `admin.allow_paths` (Envoy's StringMatcher). */
export interface PathRule {
  kind: 'exact' | 'prefix' | 'suffix' | 'contains' | 'regex';
  text: string;
  ignoreCase: boolean;
}
