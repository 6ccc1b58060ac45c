import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { findRule, parsePolicy, REFUSE_ALL } from '../../../shared/policy/policy.ts';
import { makeKey } from '../../support/signatures.ts';

const release = makeKey().publicKey.pem;
const gateway = makeKey().publicKey.pem;
const keys = { release: { pem: release }, gateway: { pem: gateway } };
const rule = { repository: 'a.test/os/*', images: { signers: ['release'] } };
const good = { version: 1, keys, rules: [rule] };

const refusal = (policy: unknown) => {
  try {
    parsePolicy(typeof policy === 'string' ? policy : JSON.stringify(policy), 'policy.json');
  } catch (thrown) {
    return thrown;
  }
  throw new Error('it was taken');
};

describe('parsePolicy', () => {
  it('reads signers, thresholds and validity, and lets deltas follow images', () => {
    const policy = parsePolicy(
      JSON.stringify({
        version: 1,
        keys: {
          release: { pem: release, validFrom: '2026-01-01T00:00:00Z' },
          gateway: { pem: gateway, validUntil: '2027-01-01T00:00:00Z' },
        },
        rules: [
          { repository: 'a.test/os/*', images: { signers: ['release', 'gateway'], threshold: 2 } },
          {
            repository: 'a.test/os/edge',
            images: { signers: ['release'] },
            deltas: { signers: ['gateway'] },
          },
        ],
      }),
    );
    const wide = findRule(policy, 'a.test/os/other');
    expect(wide.images).toMatchObject({
      threshold: 2,
      signers: [{ name: 'release' }, { name: 'gateway' }],
    });
    expect(wide.deltas).toBe(wide.images);
    const exact = findRule(policy, 'a.test/os/edge');
    expect(exact.images).toMatchObject({
      threshold: 1,
      signers: [{ name: 'release', validFrom: new Date('2026-01-01T00:00:00Z') }],
    });
    expect(exact.deltas).toMatchObject({
      signers: [{ name: 'gateway', validUntil: new Date('2027-01-01T00:00:00Z') }],
    });
  });

  it.each<[string, unknown, string]>([
    ['an unknown field', { ...good, rule: [] }, 'rule'],
    ['an unknown field of a rule', { ...good, rules: [{ ...rule, image: {} }] }, 'image'],
    [
      'an unknown field of a key',
      { ...good, keys: { ...keys, release: { pem: release, validTo: 'x' } } },
      'validTo',
    ],
    ['a version to come', { ...good, version: 2 }, 'version'],
    ['no version', { ...good, version: undefined }, 'version'],
    ['no rules', { version: 1, keys }, 'rules'],
    ['a key that stands twice', JSON.stringify(good).replace('{', '{"version":1,'), 'twice'],
    ['one key by two names', { ...good, keys: { ...keys, copy: { pem: release } } }, 'one key'],
    ['two rules for one pattern', { ...good, rules: [rule, rule] }, 'two rules'],
    [
      'a wildcard inside',
      { ...good, rules: [{ ...rule, repository: 'a.test/*/x' }] },
      'repository',
    ],
    ['no signers', { ...good, rules: [{ ...rule, images: { signers: [] } }] }, 'signer'],
    [
      'an unknown signer',
      { ...good, rules: [{ ...rule, images: { signers: ['x'] } }] },
      'no key or identity x',
    ],
    [
      'a signer named twice',
      { ...good, rules: [{ ...rule, images: { signers: ['release', 'release'] } }] },
      'named twice',
    ],
    [
      'a threshold of zero',
      { ...good, rules: [{ ...rule, images: { signers: ['release'], threshold: 0 } }] },
      'threshold',
    ],
    [
      'a threshold that cannot be met',
      { ...good, rules: [{ ...rule, images: { signers: ['release'], threshold: 2 } }] },
      'fewer',
    ],
    [
      'a date that is none',
      { ...good, keys: { release: { pem: release, validFrom: 'yesterday' } } },
      'validFrom',
    ],
    ['no JSON', 'version: 1', 'JSON'],
    ['another type', [], ''],
  ])('refuses %s', (_name, policy, message) => {
    expect(refusal(policy)).toMatchObject({
      code: 'CONFIG_INVALID',
      where: 'policy.json',
      message: expect.stringContaining(message),
    });
  });

  it('refuses keys of other kinds, by name', () => {
    const spki = { type: 'spki', format: 'pem' } as const;
    const pem = generateKeyPairSync('ed25519').publicKey.export(spki).toString();
    expect(refusal({ ...good, keys: { release: { pem } } })).toMatchObject({
      code: 'KEY_INVALID',
      where: 'policy.json, key release',
      message: expect.stringContaining('ed25519'),
    });
  });
});

describe('findRule', () => {
  it('refuses what no rule covers', () => {
    const refused = expect.objectContaining({ code: 'POLICY_REFUSED', where: 'b.test/os' });
    expect(() => findRule(REFUSE_ALL, 'b.test/os')).toThrow(refused);
    expect(() => findRule(parsePolicy(JSON.stringify(good)), 'b.test/os')).toThrow(refused);
  });
});
