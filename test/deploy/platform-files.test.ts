import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { envoyBinary } from '../support/envoy.js';
import { quadletUnit } from '../support/platform.js';

const DEPLOY = resolve(import.meta.dirname, '../../deploy');
/** Compares files with the models that the AWS command line is made of. */
const BOTO = `
import json, sys
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
service, operation, file = sys.argv[1:]
model = ServiceModel(Loader().load_service_model(service, 'service-2'), service)
params = json.load(open(file))
report = ParamValidator().validate(params, model.operation_model(operation).input_shape)
print(report.generate_report())
`;

describe('the files of deploy', () => {
  it('for Compose are what its specification allows', async () => {
    const binary = process.env['CHECK_JSONSCHEMA_BIN'] ?? 'check-jsonschema';
    const folder = join(DEPLOY, 'compose');
    const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
    assert.equal(files.length, 4);
    const args = ['--builtin-schema', 'vendor.compose-spec'];
    await promisify(execFile)(binary, [...args, ...files.map((name) => join(folder, name))], {
      env: { ...process.env, PYTHONPATH: dirname(dirname(binary)) },
    });
  });

  it('for Compose have a proxy whose bootstrap Envoy takes', () => {
    const file = join(DEPLOY, 'compose/front/envoy.yaml');
    execFileSync(envoyBinary(), ['--mode', 'validate', '-c', file], { stdio: 'pipe' });
  });

  for (const [service, operation, file] of [
    ['ecs', 'RegisterTaskDefinition', 'task-definition.json'],
    ['ecs', 'CreateService', 'service.json'],
    ['elbv2', 'CreateTargetGroup', 'target-group.json'],
    ['elbv2', 'ModifyTargetGroupAttributes', 'target-group-attributes.json'],
  ] as const) {
    it(`for ECS are what aws ${service} takes: ${file}`, async () => {
      const packages = process.env['BOTOCORE'];
      const { stdout } = await promisify(execFile)(
        'python3',
        ['-c', BOTO, service, operation, join(DEPLOY, 'ecs', file)],
        { env: { ...process.env, ...(packages ? { PYTHONPATH: packages } : {}) } },
      );
      assert.equal(stdout.trim(), '');
    });
  }

  it('for Quadlet make a unit that gives Podman the time that it says', async () => {
    const unit = await quadletUnit(join(DEPLOY, 'quadlet/pm2-envoy.container'));
    assert.match(unit, /^ExecStart=\/usr\/bin\/podman run .* --stop-timeout 120 .*--read-only/m);
    assert.match(unit, /^TimeoutStopSec=135$/m);
  });
});
