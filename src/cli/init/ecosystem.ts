import type { Pm2App } from '../../pm2/apps.js';

/** What an ecosystem file can be written in. */
export const FORMATS = ['commonjs', 'esm', 'json', 'yaml'] as const;

/** One of {@link FORMATS}. */
export type EcosystemFormat = (typeof FORMATS)[number];

/** What goes into an ecosystem file. */
export interface Ecosystem {
  /** What the file imports: the package's name, or the absolute path of its module. */
  from: string;
  /** Undefined: `envoy`. */
  name: string | undefined;
  env: Readonly<Record<string, string>>;
  /** The apps as they are now: JSON and YAML can't ask for them. */
  apps: readonly Pm2App[];
}

/** The text of an ecosystem file. */
export async function renderEcosystem(
  format: EcosystemFormat,
  ecosystem: Ecosystem,
): Promise<string> {
  const { apps } = ecosystem;
  switch (format) {
    case 'commonjs':
      return `const { envoyApps } = require(${quoted(ecosystem.from)});\n\nmodule.exports = {\n  apps: ${call(ecosystem, '__dirname', '  ')},\n};\n`;
    case 'esm':
      return `import { envoyApps } from ${quoted(ecosystem.from)};\n\nexport const apps = ${call(ecosystem, 'import.meta.dirname', '')};\n`;
    case 'json':
      return `${JSON.stringify({ apps }, undefined, 2)}\n`;
    case 'yaml':
      return (await import('./yaml.js')).toYaml({ apps });
  }
}

function call({ name, env }: Ecosystem, folder: string, indent: string): string {
  const variables = Object.entries(env).map(
    ([key, value]) => `${indent}    ${key}: ${quoted(value)},\n`,
  );
  const lines = [
    ...(name === undefined ? [] : [`name: ${quoted(name)},`]),
    `cwd: ${folder},`,
    ...(variables.length > 0 ? [`env: {\n${variables.join('')}${indent}  },`] : []),
  ];
  return `envoyApps({\n${lines.map((line) => `${indent}  ${line}\n`).join('')}${indent}})`;
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', '\\n')}'`;
}
