import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createBootstrapFilter } from '../../src/envoy/bootstrap-filter.js';
import { messageIn, parseTextMessage, textIn } from '../../src/envoy/text-proto.js';
import { holds } from './check.js';

const TEXT = `[x][critical] error: goo.gle/debugproto
node {
  id: "admin {\\n"
}
static_resources {
  listeners {
    name: "a"
    address {
      socket_address {
        address: "127.0.0.1"
        port_value: 1
      }
    }
    filter_chains {
      filters {
        name: "listeners {"
      }
    }
    enable_reuse_port {
    }
  }
  clusters {
    name: "c"
  }
  listeners {
    name: "b"
    internal_listener {
    }
  }
}
stats_flush_interval {
  nanos: 100000
}
admin {
  address {
    pipe {
      path: "/a"
    }
  }
}
: Proto constraint validation failed
`;

describe('createBootstrapFilter', () => {
  it('finds the same however the text comes in', () => {
    holds(
      fc.property(fc.array(fc.nat(TEXT.length), { maxLength: 20 }), (cuts) => {
        const filter = createBootstrapFilter();
        const ends = [...cuts.sort((a, b) => a - b), TEXT.length];
        ends.forEach((end, at) => {
          filter.take(TEXT.slice(ends[at - 1] ?? 0, end));
        });
        const found = filter.found() ?? assert.fail('it was printed whole');
        const message = parseTextMessage(found);
        const names = (message.get('listeners') ?? []).map((one) =>
          typeof one === 'string' ? one : textIn(one, 'name'),
        );
        assert.deepEqual(names, ['a', 'b']);
        const address = messageIn(messageIn(message, 'admin'), 'address');
        assert.equal(textIn(messageIn(address, 'pipe'), 'path'), '/a');
        assert.doesNotMatch(found, /filter_chains|clusters|node/);
      }),
    );
  });

  it('finds nothing in what was broken off, and in anything else', () => {
    holds(
      fc.property(fc.nat(TEXT.indexOf('\n: Proto')), (length) => {
        const filter = createBootstrapFilter();
        filter.take(TEXT.slice(0, length));
        assert.equal(filter.found(), undefined);
      }),
    );
    holds(
      fc.property(fc.string(), (text) => {
        const filter = createBootstrapFilter();
        filter.take(text);
        assert.equal(filter.found(), undefined);
      }),
    );
  });
});
