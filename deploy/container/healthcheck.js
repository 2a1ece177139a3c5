// The image's HEALTHCHECK: exits with 0 while the manager reports that it works, on whichever port it serves.
import { readFileSync } from 'node:fs';

const LIMIT_MS = 4_000;

const { address, port } = JSON.parse(
  readFileSync(`${process.env.PM2_ENVOY_RUN_DIR}/manager.json`, 'utf8'),
);
const host = address === '0.0.0.0' || address === '::' ? '127.0.0.1' : address;
const { ok } = await fetch(`http://${host.includes(':') ? `[${host}]` : host}:${port}/healthz`, {
  signal: AbortSignal.timeout(LIMIT_MS),
});
process.exitCode = ok ? 0 : 1;
