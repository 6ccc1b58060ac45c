import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ContainersEntry,
  exportContainersPolicy,
} from '../../../shared/policy/export-containers-policy.ts';
import { importContainersPolicy } from '../../../shared/policy/import-containers-policy.ts';
import { findRule, parsePolicy } from '../../../shared/policy/policy.ts';
import { isMet } from '../../../shared/policy/requirement.ts';
import { makeKey } from '../../support/signatures.ts';

const NAMES = ['a', 'b', 'c', 'd'] as const;
const pems = Object.fromEntries(NAMES.map((name) => [name, makeKey().publicKey.pem]));
const keys = Object.fromEntries(NAMES.map((name) => [name, { pem: pems[name] ?? '' }]));
const now = new Date('2026-06-01T00:00:00Z');
const ours = (rules: object[], more: object = {}) =>
  parsePolicy(JSON.stringify({ version: 1, keys: { ...keys, ...more }, rules }));
const exported = (rules: object[], weaker = false) =>
  exportContainersPolicy(ours(rules), { now, weaker });
const base64 = (name: string) => Buffer.from(pems[name] ?? '').toString('base64');

/** How containers/image judges: every entry needs a signature by one of its keys. */
function accepts(entries: readonly ContainersEntry[], signed: ReadonlySet<string>): boolean {
  const good = new Set([...signed].map(base64));
  return entries.every((entry) => {
    if (entry.type === 'reject') return false;
    return [entry.keyData ?? [], entry.keyDatas ?? []].flat().some((data) => good.has(data));
  });
}

const group = fc
  .record({ signers: fc.subarray([...NAMES], { minLength: 1 }), part: fc.nat({ max: 3 }) })
  .map(({ signers, part }) => ({ signers, threshold: (part % signers.length) + 1 }));
const demand = fc.oneof(
  group,
  fc.array(group, { minLength: 1, maxLength: 3 }).map((allOf) => ({ allOf })),
  fc.array(group, { minLength: 1, maxLength: 2 }).map((anyOf) => ({ anyOf })),
);

describe('export', () => {
  it('says groups and thresholds exactly', () => {
    fc.assert(
      fc.property(demand, fc.subarray([...NAMES]), (images, signed) => {
        const rules = [{ repository: 'a.test/os', images }];
        const entries = exported(rules).policy.transports.docker['a.test/os'] ?? [];
        fc.pre(entries.every(({ type }) => type !== 'reject'));
        const requirement = findRule(ours(rules), 'a.test/os').images;
        expect(accepts(entries, new Set(signed))).toBe(isMet(requirement, new Set(signed)));
      }),
    );
  });

  it('rejects by default, and rejects what would be weaker', () => {
    const images = { signers: ['a'] };
    const rules = [
      { repository: '*', images },
      { repository: 'a.test/os/*', images, oldest: { version: '2' } },
    ];
    const { policy, notes } = exported(rules);
    expect(policy.default).toEqual([{ type: 'reject' }]);
    expect(policy.transports.docker['']).toMatchObject([{ keyData: base64('a') }]);
    expect(policy.transports.docker['a.test/os']).toEqual([{ type: 'reject' }]);
    expect(notes).toEqual(['a.test/os/*: oldest cannot be said there; all is rejected']);
    const weaker = exported(rules, true).policy.transports.docker['a.test/os'];
    expect(weaker).toMatchObject([{ type: 'sigstoreSigned' }]);
  });

  it('leaves out keys that do not count today', () => {
    const old = { old: { pem: makeKey().publicKey.pem, validUntil: '2026-01-01T00:00:00Z' } };
    const images = { signers: ['a', 'old'] };
    const policy = ours([{ repository: 'a.test/os/*', images }], old);
    const { docker } = exportContainersPolicy(policy, { now, weaker: false }).policy.transports;
    expect(docker['a.test/os']).toMatchObject([{ keyData: base64('a') }]);
    const alone = ours([{ repository: 'a.test/os/*', images: { signers: ['old'] } }], old);
    const rejected = exportContainersPolicy(alone, { now, weaker: false }).policy.transports;
    expect(rejected.docker['a.test/os']).toEqual([{ type: 'reject' }]);
  });

  it('lets two rules that share a scope both hold', () => {
    const rules = [
      { repository: 'a.test/os', images: { signers: ['a'] } },
      { repository: 'a.test/os/*', images: { signers: ['b'] } },
    ];
    expect(exported(rules).policy.transports.docker['a.test/os']).toHaveLength(2);
  });
});

describe('import', () => {
  const read = async (path: string) => pems[path.slice(1)] ?? '';
  const imported = async (file: object) => {
    const { policy, notes } = await importContainersPolicy(JSON.stringify(file), read);
    return { policy: parsePolicy(JSON.stringify(policy)), notes };
  };
  const signedBy = (more: object) => ({ type: 'sigstoreSigned', ...more });

  it('reads keys by path and by content, and that all entries must hold', async () => {
    const entries = [
      signedBy({ keyPath: '/a', signedIdentity: { type: 'matchRepository' } }),
      signedBy({ keyDatas: [base64('b'), base64('c')] }),
    ];
    const { policy, notes } = await imported({
      default: [{ type: 'reject' }],
      transports: { docker: { 'a.test/os': entries } },
    });
    expect(notes).toEqual(['the default: refused']);
    for (const repository of ['a.test/os', 'a.test/os/edge']) {
      const { images } = findRule(policy, repository);
      // Names are given in the order in which the keys stand.
      expect(isMet(images, new Set(['key-1', 'key-3']))).toBe(true);
      expect(isMet(images, new Set(['key-1']))).toBe(false);
      expect(isMet(images, new Set(['key-2', 'key-3']))).toBe(false);
    }
    expect(findRule(policy, 'b.test/os').conditions.allowed?.size).toBe(0);
  });

  it('refuses where the file rejects, or says what cannot be said here', async () => {
    const { policy, notes } = await imported({
      default: [{ type: 'insecureAcceptAnything' }],
      transports: {
        docker: {
          'a.test': [signedBy({ keyPath: '/a' })],
          'a.test/closed': [{ type: 'reject' }],
          'a.test/gpg': [{ type: 'signedBy', keyType: 'GPGKeys', keyPath: '/a' }],
          'a.test/keyless': [signedBy({ fulcio: { caPath: '/x' } })],
          'a.test/os:v1': [signedBy({ keyPath: '/a' })],
          '*.wild.test': [signedBy({ keyPath: '/a' })],
        },
      },
    });
    expect(findRule(policy, 'a.test/os').conditions.allowed).toBeUndefined();
    for (const name of ['a.test/closed', 'a.test/gpg/x', 'a.test/keyless', 'b.test/os']) {
      expect(findRule(policy, name).conditions.allowed?.size, name).toBe(0);
    }
    expect(notes.join('\n')).toMatch(/v1: left out[\s\S]*wild.test: left out[\s\S]*insecureAccept/);
  });

  it('comes back as it went out', async () => {
    const rules = [
      { repository: 'a.test/os/*', images: { signers: ['a', 'b', 'c'], threshold: 2 } },
    ];
    const { policy } = await imported(exported(rules).policy);
    const { images } = findRule(policy, 'a.test/os/edge');
    expect(isMet(images, new Set(['key-1', 'key-2']))).toBe(true);
    expect(isMet(images, new Set(['key-3']))).toBe(false);
  });

  it.each([
    ['no JSON', '{'],
    ['another type', '[]'],
    ['a key twice', '{"default":[],"default":[]}'],
  ])('refuses %s', async (_name, text) => {
    await expect(importContainersPolicy(text, read, 'p.json')).rejects.toMatchObject({
      ...{ code: 'CONFIG_INVALID', where: 'p.json' },
    });
  });
});
