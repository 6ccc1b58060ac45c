import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { exportContainersPolicy } from '../../../shared/policy/export-containers-policy.ts';
import { findRule, parsePolicy } from '../../../shared/policy/policy.ts';
import { makeKey } from '../../support/signatures.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { TestTuf } from '../../support/tuf.ts';

async function scene(ctx: Parameters<typeof temporaryFolder>[0]) {
  const tuf = await TestTuf.create(join(await temporaryFolder(ctx), 'tuf'));
  const root = JSON.parse(String(await tuf.folder.metadata('1.root.json')));
  const policyOf = (channel: object, channelRoots: object = { os: root }) =>
    JSON.stringify({
      ...{ version: 1, keys: { release: { pem: makeKey().publicKey.pem } }, channelRoots },
      rules: [{ repository: 'a.test/*', images: { signers: ['release'] }, channel }],
    });
  return { root, policyOf };
}

describe('a rule that asks for a channel', () => {
  it('holds the root and the age', async (ctx) => {
    const { root, policyOf } = await scene(ctx);
    const rule = findRule(parsePolicy(policyOf({ root: 'os', maximumAgeSeconds: 60 })), 'a.test/b');
    expect(rule.channel).toMatchObject({ root: 'os', maximumAgeSeconds: 60 });
    expect(JSON.parse(String(Buffer.from(rule.channel?.anchor ?? [])))).toEqual(root);
  });

  it('is weaker in the policy of Podman, and is exported as a refusal', async (ctx) => {
    const { policyOf } = await scene(ctx);
    const policy = parsePolicy(policyOf({ root: 'os' }));
    const exported = exportContainersPolicy(policy, { now: new Date(), weaker: false });
    expect(exported.policy.transports.docker['a.test']).toEqual([{ type: 'reject' }]);
    expect(exported.notes.join()).toMatch(/channel cannot be said there/);
  });

  it('is taken only with a root that its own keys signed', async (ctx) => {
    const { root, policyOf } = await scene(ctx);
    const { signatures } = root;
    const spoilt = [
      [policyOf({ root: 'other' }), /there is no channel root other/],
      [policyOf({ root: 'os', maximumAge: 1 }), /maximumAge/],
      [policyOf({ root: 'os' }, { os: {} }), /root: signed is not defined/],
      [policyOf({ root: 'os' }, { os: { ...root, signatures: [signatures[0]] } }), /enough/],
      [
        policyOf({ root: 'os' }, { os: { ...root, signed: { ...root.signed, version: 2 } } }),
        /enough of its keys/,
      ],
    ] as const;
    for (const [text, message] of spoilt) {
      expect(() => parsePolicy(text)).toThrow(
        expect.objectContaining({
          code: 'CONFIG_INVALID',
          message: expect.stringMatching(message),
        }),
      );
    }
  });
});
