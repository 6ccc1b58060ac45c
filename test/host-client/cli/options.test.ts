import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { overridesFrom } from '../../../host-client/cli/options.ts';

describe('the options of every command', () => {
  it('take paths from where the reader is, and texts as they are', () => {
    const options = { policy: 'policy.json', 'ca-file': '/etc/ca.pem', tag: 'stable', root: 'x' };
    expect(overridesFrom(options)).toMatchObject({
      ...{
        policy: resolve('policy.json'),
        caFile: '/etc/ca.pem',
        tag: 'stable',
        root: resolve('x'),
      },
    });
    expect(overridesFrom({}).policy).toBeUndefined();
  });
});
