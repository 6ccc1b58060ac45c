import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../host-client/config.ts';
import { parsePolicy } from '../../shared/policy/policy.ts';
import { makeKey } from '../support/signatures.ts';

describe('the samples for a machine', () => {
  it('are a configuration with the values that hold without it', async () => {
    const sample = await loadConfig({ config: 'deploy/snaphost.json' });
    const said = { gateways: ['https://gateway.example'], repository: 'os/server', tag: 'stable' };
    const bare = await loadConfig({ root: '/nowhere', ...said });
    for (const key of ['keep', 'smallestDelta', 'waits', 'storage', 'limits'] as const) {
      expect(sample[key]).toEqual(bare[key]);
    }
    expect(sample.name).toBe('gateway.example/os/server');
  });

  it('are a policy that accepts nothing before keys are put in', () => {
    const text = readFileSync('deploy/policy.json', 'utf8');
    expect(() => parsePolicy(text)).toThrow();
    const json = JSON.parse(text);
    for (const key of Object.values<{ pem: string }>(json.keys)) key.pem = makeKey().publicKey.pem;
    const { rules } = parsePolicy(JSON.stringify(json));
    expect(rules).toMatchObject([{ repository: 'gateway.example/os/*' }]);
  });
});
