// Bundles the two apps, which run in every container, the command line, and what an ecosystem file imports: they start
// in half the time and take 10 MiB less than as modules of their own (docs/decisions/0009-the-apps-are-bundled.md).
// Everything else in dist/ stays as tsc made it.
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * Node loads its own fetch, 5 MiB, once any code reads one of its names, and axios does that when it is
 * loaded: for a second adapter, and to know a form. We use neither.
 */
const axiosWithoutFetch = {
  name: 'axios-without-fetch',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\/fetch\.js$/ }, ({ importer }) =>
      isOfAxios(importer) ? { path: `${root}scripts/no-fetch.js` } : undefined,
    );
    onLoad({ filter: /[\\/]axios[\\/]lib[\\/]utils\.js$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      const contents = text.replace("typeof G.FormData !== 'undefined' ? G.FormData : ", '');
      if (contents === text) throw new Error(`${path} asks for FormData in another way`);
      return { contents };
    });
  },
};

/** What the manager answers with: express has a table of 2,500 types, 150 kB, made into two more at the start. */
const SERVED = [
  'application/json',
  'image/svg+xml',
  'text/css',
  'text/html',
  'text/javascript',
  'text/plain',
];
const servedTypesAlone = {
  name: 'served-types-alone',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]mime-db[\\/]db\.json$/ }, async ({ path }) => {
      const all = JSON.parse(await readFile(path, 'utf8'));
      const entries = SERVED.map((type) => [type, all[type]]);
      const missing = entries.find(([, known]) => known === undefined);
      if (missing) throw new Error(`${path} does not know ${missing[0]}`);
      return { contents: JSON.stringify(Object.fromEntries(entries)), loader: 'json' };
    });
  },
};

function isOfAxios(path) {
  return /[\\/]axios[\\/]lib[\\/]adapters[\\/]/.test(path);
}

const shared = {
  absWorkingDir: root,
  outdir: 'dist',
  outbase: 'src',
  bundle: true,
  minify: true,
  platform: 'node',
  format: 'esm',
  target: 'node20.19',
  logLevel: 'warning',
};
const programs = {
  ...shared,
  splitting: true,
  // pm2's own modules are those of the pm2 that runs; what reads manifests is for people at a
  // terminal, and koffi, a binary, for bootstraps with UDP.
  external: ['pm2/*', '@cdktn/hcl2json', 'smol-toml', 'koffi'],
  // No endpoint takes a body or a nested query, no request of ours is a form, and no log has a thread of its own:
  // they bring 370 kB along.
  alias: {
    'body-parser': './scripts/not-used.cjs',
    'form-data': './scripts/not-used.cjs',
    qs: './scripts/not-used.cjs',
    'thread-stream': './scripts/not-used.cjs',
    'yargs-parser': './scripts/no-arguments.cjs',
  },
  plugins: [axiosWithoutFetch, servedTypesAlone],
  // Bundled CommonJS modules ask for Node's own; short names are taken by minified ones.
  banner: {
    js: "import{createRequire as $createRequire}from'node:module';const require=$createRequire(import.meta.url);",
  },
};

await build({
  ...programs,
  entryPoints: [
    'src/manager/main.ts',
    'src/runner/main.ts',
    'src/pm2/stop-signals.ts',
    'src/pm2/module/main.ts',
  ],
  chunkNames: 'bundle/[name]-[hash]',
});
// A command runs for a moment, often in a probe or a preStop of a container with little CPU: loading is most of it.
await build({
  ...programs,
  entryPoints: ['src/cli/main.ts'],
  chunkNames: 'bundle/cli/[name]-[hash]',
});
// What an ecosystem file imports: pm2-runtime reads it in its own process, which stays.
await build({
  ...programs,
  entryPoints: ['src/index.ts', 'src/pm2/apps.ts'],
  // It writes no log.
  external: [...programs.external, 'pino', 'pino-pretty'],
  chunkNames: 'bundle/ecosystem/[name]-[hash]',
});
// What pm2 starts has to load whatever else is missing: each is one file, which imports the rest.
await build({
  ...shared,
  entryPoints: ['src/apps/manager.ts', 'src/apps/runner.ts', 'src/apps/module.ts'],
  external: ['../pm2/*', '../manager/*', '../runner/*'],
});
// What the browser runs: one script and one style sheet.
await build({
  ...shared,
  entryPoints: {
    'manager/page/main': 'src/manager/page/main.ts',
    'manager/page/page': 'assets/page.css',
  },
  platform: 'browser',
  target: 'es2022',
});
