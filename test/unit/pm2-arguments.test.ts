import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { appArguments } from '../../src/pm2/arguments.js';

describe('appArguments', () => {
  it('gives an app that is no cluster worker its own arguments, whatever the variable says', () => {
    const argv = ['--check-delay', '5s'];
    assert.deepEqual(appArguments(argv, 'something,else', false), argv);
    assert.deepEqual(appArguments([], 'something', false), []);
  });

  it('leaves out the daemon’s arguments for a worker', () => {
    const argv = ['start', 'ecosystem.config.js', '--check-delay', '5s'];
    assert.deepEqual(appArguments(argv, '--check-delay,5s', true), ['--check-delay', '5s']);
  });

  it('gives a worker without arguments none', () => {
    assert.deepEqual(appArguments(['start', 'ecosystem.config.js'], '', true), []);
    assert.deepEqual(appArguments([], '', true), []);
  });

  it('keeps an argument with commas whole', () => {
    const argv = ['start', 'eco.js', '--envoy-args', '--concurrency,2'];
    assert.deepEqual(appArguments(argv, '--envoy-args,--concurrency,2', true), argv.slice(2));
    assert.deepEqual(appArguments(['start', 'a,b,c'], 'a,b,c', true), ['a,b,c']);
  });

  it('takes all arguments when the daemon has none of its own', () => {
    assert.deepEqual(appArguments(['--a', '1'], '--a,1', true), ['--a', '1']);
  });

  it('gives none rather than the daemon’s when the two don’t fit', () => {
    assert.deepEqual(appArguments(['start', 'eco.js', '--a', '1'], '--a,2', true), []);
    assert.deepEqual(appArguments(['start', '--a', '1', 'more'], '--a,1', true), []);
    assert.deepEqual(appArguments([], '--a', true), []);
  });

  it('hands out a list of the caller’s own', () => {
    const argv = ['--a'];
    appArguments(argv, '', false).push('more');
    assert.deepEqual(argv, ['--a']);
  });
});
