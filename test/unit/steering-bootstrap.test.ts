import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { readUdpListeners } from '../../src/steering/bootstrap-listeners.js';

const LISTENER = 'address: {socket_address: {protocol: UDP, address: 0.0.0.0, port_value: 443}}';

/** A bootstrap with one QUIC listener, whose quic_options are given. */
function withOptions(options: string): string {
  return `static_resources:
  listeners:
  - name: h3
    ${LISTENER}
    udp_listener_config:
      quic_options:${options}
# the end
`;
}

function generatorOf(text: string): string | undefined {
  const [listener] = parse(text, { merge: true }).static_resources.listeners;
  return listener.udp_listener_config.quic_options?.connection_id_generator_config?.name;
}

describe('readUdpListeners', () => {
  for (const [how, options] of Object.entries({
    'a block': '\n        # first\n        idle_timeout: 5s\n        enabled: {}',
    'an empty map': ' {}',
    'a map in one line': ' {idle_timeout: 5s} # so',
    nothing: '',
    'an anchor': ' &quic\n        idle_timeout: 5s',
  })) {
    it(`puts a generator into quic_options of ${how}, and leaves the rest`, () => {
      const text = withOptions(options);
      const found = readUdpListeners(text);
      assert.ok(found);
      assert.deepEqual(found.listeners, [{ name: 'h3', port: 443, carries: 'quic' }]);
      assert.equal(generatorOf(found.marked), 'envoy.quic.connection_id_generator.quic_lb');
      const added = found.marked.length - text.length;
      const at = [...text].findIndex((char, index) => char !== found.marked[index]);
      assert.equal(found.marked.slice(0, at) + found.marked.slice(at + added), text);
      assert.equal(readUdpListeners(found.marked)?.marked, found.marked, 'once only');
    });
  }

  it('does so in JSON, and in the spelling of JSON', () => {
    const bootstrap = {
      staticResources: {
        listeners: [
          {
            name: 'h3',
            address: { socketAddress: { portValue: 8443 } },
            udpListenerConfig: { quicOptions: { idleTimeout: '5s' } },
          },
        ],
      },
    };
    const found = readUdpListeners(JSON.stringify(bootstrap, undefined, 2));
    assert.deepEqual(found?.listeners, [{ name: 'h3', port: 8443, carries: 'quic' }]);
    assert.match(JSON.stringify(JSON.parse(found.marked)), /quic_lb/);
  });

  it('leaves a generator of the user’s own, and says whose it is', () => {
    const own = withOptions(' {connection_id_generator_config: {name: mine}}');
    const found = readUdpListeners(own);
    assert.deepEqual(found?.foreign, ['h3']);
    assert.equal(found.marked, own);
  });

  it('knows a UDP proxy, and that listeners come from a control plane', () => {
    const found = readUdpListeners(`static_resources:
  listeners:
  - name: tcp
    address: {socket_address: {address: 0.0.0.0, port_value: 80}}
  - name: dns
    address: {socket_address: {protocol: UDP, address: 0.0.0.0, port_value: 53}}
dynamic_resources: {lds_config: {ads: {}}}
`);
    assert.deepEqual(found?.listeners, [{ name: 'dns', port: 53, carries: 'udp' }]);
    assert.equal(found.hasLds, true);
  });

  it('leaves to Envoy what is no YAML', () => {
    assert.equal(readUdpListeners('a: [1'), undefined);
    assert.deepEqual(readUdpListeners('')?.listeners, []);
  });
});
