import { isWithin, type Mount, type StoppedContainer } from './container.js';
import { type Finding, problem, warning } from './finding.js';

/** Where the image of deploy/container writes. */
const WRITTEN = [
  { variable: 'PM2_HOME', path: '/tmp/pm2' },
  { variable: 'PM2_ENVOY_RUN_DIR', path: '/tmp/pm2-envoy' },
];
const BOOTSTRAP = 'PM2_ENVOY_ENVOY_CONFIG';
/** What the image sets it to. */
const OF_IMAGE = '/etc/pm2-envoy/envoy.yaml';

/** Whether pm2 and the runner can write, and find their bootstrap. */
export function checkFiles(container: StoppedContainer): Finding[] {
  return [...checkWritable(container), ...checkBootstrap(container)];
}

function checkWritable({ isReadOnlyRoot, mounts, variables }: StoppedContainer): Finding[] {
  if (!isReadOnlyRoot) return [];
  const missing = WRITTEN.filter(({ variable, path }) => {
    const place = variables.get(variable) ?? path;
    return mountOf(place, mounts)?.isWritable !== true;
  }).map(({ variable, path }) => `${variables.get(variable) ?? path} (${variable})`);
  if (missing.length === 0) return [];
  return [
    problem(
      'files',
      `its root is read-only, and nothing that can be written is mounted for ${missing.join(' and ')}: it does not start`,
      'mount an empty volume or a tmpfs at /tmp, or set both variables to where one is',
    ),
  ];
}

function checkBootstrap({ mounts, variables }: StoppedContainer): Finding[] {
  const isSet = variables.has(BOOTSTRAP);
  const path = isSet ? variables.get(BOOTSTRAP) : OF_IMAGE;
  if (path === undefined || !path.startsWith('/')) return [];
  const mount = mountOf(path, mounts);
  if (!mount && !isSet) return [];
  if (!mount) {
    return [
      warning(
        'files',
        `nothing is mounted at ${path} (${BOOTSTRAP}): Envoy runs with what the image has there`,
        'mount the folder of your bootstrap, or copy it into the image and leave the variable out',
      ),
    ];
  }
  if (!mount.isPart) return [];
  return [
    warning(
      'files',
      `${mount.path} is mounted as one file (subPath, or a file in place of its folder): a change may never arrive, and \`pm2-envoy redeploy\` starts the old one again`,
      'mount the folder',
    ),
  ];
}

/** The innermost mount that a path lies in. */
function mountOf(path: string, mounts: readonly Mount[]): Mount | undefined {
  const around = mounts.filter((mount) => isWithin(path, mount));
  return around.sort((a, b) => b.path.length - a.path.length)[0];
}
