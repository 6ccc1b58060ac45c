import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { keysGenerateCommand, keysShowCommand } from '../../../gateway/cli/keys.ts';
import { policyTestCommand } from '../../../gateway/cli/policy.ts';
import { signCommand } from '../../../gateway/cli/sign.ts';
import { verifyCommand } from '../../../gateway/cli/verify.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { openReference } from '../../../gateway/layout/open-reference.ts';
import { type Command, runProgram } from '../../../shared/cli/command.ts';
import { makeToken, SOFTHSM_MODULE, softHsmMissing } from '../../support/softhsm.ts';
import { putTinyDelta } from '../../support/tiny-delta.ts';
import { putTinyImage, type TinyImage } from '../../support/tiny-image.ts';
import { startTransit } from '../../support/transit-server.ts';

const IDENTITY = 'gate.test/os/edge:v1';
let dir: string;
let image: TinyImage;
let store: LayoutStore;
const at = (name: string) => join(dir, name);

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-signing-cli-'));
  await writeFile(at('password'), 'secret\n');
  store = await LayoutStore.create(at('image'));
  image = await putTinyImage(store, [{ a: '1' }], { tag: 'v1' });
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true, force: true });
});

async function snapgate(...argv: string[]) {
  const out = new PassThrough();
  const err = new PassThrough();
  const keys = [keysGenerateCommand, keysShowCommand];
  const commands = [...keys, signCommand, verifyCommand, policyTestCommand] as Command[];
  const program = { name: 'snapgate', version: '0', summary: '', commands };
  const status = await runProgram(program, argv, { out, err }, new AbortController().signal);
  out.end();
  err.end();
  const text = (await out.toArray()).join('');
  const errors = (await err.toArray()).join('');
  return { status, text, errors, json: argv.includes('--json') ? JSON.parse(text) : undefined };
}

const password = () => ['--password-file', at('password')];
const generate = (name = 'k') =>
  snapgate('keys', 'generate', '--output', at(name), ...password(), '--json');
const sign = (name = 'k', reference = `oci:${at('image')}:v1`) =>
  snapgate(
    ...['sign', reference, '--key', at(`${name}.key`), ...password()],
    ...['--identity', IDENTITY, '--json'],
  );
const verify = (...more: string[]) => snapgate('verify', `oci:${at('image')}:v1`, ...more);

async function writePolicy(threshold: number, ...names: string[]): Promise<string> {
  const keys: Record<string, object> = {};
  for (const name of names) keys[name] = { pem: await readFile(at(`${name}.pub`), 'utf8') };
  const images = { signers: names, threshold };
  const rules = [{ repository: 'gate.test/os/*', images }];
  await writeFile(at('policy.json'), JSON.stringify({ version: 1, keys, rules }));
  return at('policy.json');
}

describe('keys', () => {
  it('are made for their owner only, and never over others', async () => {
    const made = await generate();
    expect(made.json).toMatchObject({
      algorithm: 'ECDSA P-256',
      publicKey: await readFile(at('k.pub'), 'utf8'),
      privateKeyFile: at('k.key'),
    });
    expect((await stat(at('k.key'))).mode & 0o777).toBe(0o600);
    const before = await readFile(at('k.key'), 'utf8');
    expect((await generate()).json).toMatchObject({ error: { code: 'CONFIG_INVALID' } });
    expect(await readFile(at('k.key'), 'utf8')).toBe(before);
    await rm(at('k.key'));
    expect((await generate()).status).toBe(2);
    await expect(stat(at('k.key'))).rejects.toThrow('ENOENT');
  });

  it('are shown from either file', async () => {
    const { json } = await generate();
    const fromPublic = await snapgate('keys', 'show', at('k.pub'), '--json');
    const fromPrivate = await snapgate('keys', 'show', at('k.key'), ...password(), '--json');
    expect(fromPublic.json).toMatchObject({ hint: json.hint, publicKey: json.publicKey });
    expect(fromPrivate.json).toMatchObject({ hint: json.hint, publicKey: json.publicKey });
    expect((await snapgate('keys', 'show', at('k.pub'))).text).toContain(json.publicKey);
  });

  it('take the password that cosign takes, and say when there is none', async () => {
    vi.stubEnv('COSIGN_PASSWORD', 'secret');
    expect((await snapgate('keys', 'generate', '--output', at('e'))).status).toBe(0);
    vi.unstubAllEnvs();
    vi.stubEnv('COSIGN_PASSWORD', undefined);
    const stdin = { value: false, configurable: true };
    Object.defineProperty(process.stdin, 'isTTY', stdin);
    const shown = await snapgate('keys', 'show', at('e.key'));
    expect(shown).toMatchObject({ status: 2, errors: expect.stringContaining('COSIGN_PASSWORD') });
    expect((await snapgate('keys', 'show', at('e.key'), ...password())).status).toBe(0);
  });

  it('do not open with a wrong password', async () => {
    await generate();
    await writeFile(at('password'), 'wrong');
    const shown = await snapgate('keys', 'show', at('k.key'), ...password());
    expect(shown).toMatchObject({ status: 2, errors: expect.stringContaining('KEY_INVALID') });
  });
});

describe('sign and verify', () => {
  it('agree, by key and by policy', async () => {
    await generate();
    const signed = await sign();
    expect(signed.json).toMatchObject({
      digest: image.stored.digest,
      identity: IDENTITY,
      manifests: [{ digest: image.stored.digest, bundle: 'added', legacy: 'added' }],
    });
    expect((await sign()).json.manifests).toMatchObject([{ bundle: 'present' }]);
    expect(await verify('--key', at('k.pub'))).toMatchObject({
      status: 0,
      text: expect.stringContaining('accepted: signed by'),
    });
    const policy = ['--policy', await writePolicy(1, 'k'), '--repository', 'gate.test/os/edge'];
    expect((await verify(...policy, '--json')).json).toMatchObject({
      ...{ digest: image.stored.digest, kind: 'image', rule: 'gate.test/os/*' },
      ...{ asked: '1 of k', allowed: ['k'], signers: ['k'] },
      signatures: [
        { form: 'bundle', signer: 'k', counted: true },
        { form: 'legacy', signer: 'k', counted: true },
      ],
    });
  });

  it('explain a refusal', async () => {
    await generate();
    await generate('other');
    await sign();
    const policy = ['--policy', await writePolicy(2, 'k', 'other')];
    const name = ['--repository', 'gate.test/os/edge'];
    const refused = await verify(...policy, ...name);
    expect(refused.status).toBe(3);
    expect(refused.errors).toContain('rule gate.test/os/*: 2 of k, other');
    expect(refused.errors).toMatch(/bundle .* k .* counts/);
    expect(refused.errors).toContain('POLICY_REFUSED');
    const stranger = await verify('--key', at('other.pub'));
    expect(stranger.status).toBe(3);
    expect(stranger.errors).toContain('does not count: it was made by a key');
    expect(stranger.errors).toContain('SIGNATURE_INVALID');
    const uncovered = await verify(...policy, '--repository', 'other.test/os/edge');
    expect(uncovered.errors).toContain('POLICY_REFUSED');
  });

  it('say when there is no signature', async () => {
    await generate();
    const { json, status } = await verify('--key', at('k.pub'), '--json');
    expect({ status, json }).toMatchObject({
      status: 3,
      json: { error: { code: 'SIGNATURE_MISSING' } },
    });
  });

  it('keep signatures in an archive, and leave it as it was when signing fails', async () => {
    await generate();
    const archive = `oci-archive:${at('image.tar')}:v1`;
    const ref = { kind: 'oci-archive', path: at('image.tar'), tag: 'v1' } as const;
    const opened = await openReference(ref, { mode: 'write' });
    await putTinyImage(opened.store, [{ a: '1' }], { tag: 'v1' });
    await opened.commit();
    await opened.close();
    const before = await readFile(at('image.tar'));
    expect((await sign('none', archive)).status).toBe(2);
    expect(await readFile(at('image.tar'))).toEqual(before);
    expect((await sign('k', archive)).status).toBe(0);
    expect((await snapgate('verify', archive, '--key', at('k.pub'))).status).toBe(0);
  });

  it('know a delta, and judge it by its own rule', async () => {
    await generate();
    const next = await putTinyImage(store, [{ a: '2' }], { tag: 'v2' });
    const delta = await putTinyDelta(store, image, next);
    const layout = await LayoutStore.create(at('delta'));
    await putTinyDelta(layout, image, next);
    await layout.putManifest(delta, 'd');
    await sign('k', `oci:${at('delta')}:d`);
    const shown = await snapgate('verify', `oci:${at('delta')}:d`, '--key', at('k.pub'), '--json');
    expect(shown.json).toMatchObject({
      kind: 'delta',
      digest: delta.digest,
      signers: [at('k.pub')],
    });
  });

  it.each([
    [['sign'], 'name one image'],
    [['sign', 'docker://a.test/b', '--key', 'x', '--password-file', 'none'], 'password file'],
    [['sign', 'oci:x', '--key', 'x'], 'no name to sign'],
    [['sign', 'docker://a.test/b'], '--key'],
    [['verify', 'oci:x'], 'either --policy or --key'],
    [['verify', 'oci:x', '--key', 'a', '--policy', 'b'], 'either --policy or --key'],
    [['verify', 'oci:x', '--policy', 'none.json'], 'policy file'],
    [['verify', 'oci:x', '--key', 'none.pub'], 'key file'],
    [['keys', 'show'], 'name one key file'],
    [['keys', 'generate', 'x'], 'unknown argument'],
  ])('refuse wrong arguments: %j', async (argv, message) => {
    const { status, errors } = await snapgate(...argv);
    expect({ status, errors }).toMatchObject({
      status: 2,
      errors: expect.stringContaining(message),
    });
  });
});

describe('policy test', () => {
  const explain = async (policy: string, ...more: string[]) => {
    const named = ['--policy', policy, '--repository', 'gate.test/os/edge'];
    return snapgate('policy', 'test', `oci:${at('image')}:v1`, ...named, ...more);
  };

  it('explains acceptance and refusal, and ends well in both cases', async () => {
    await generate();
    const policy = await writePolicy(1, 'k');
    const { status, json } = await explain(policy, '--json');
    expect(status).toBe(0);
    expect(json).toMatchObject({
      accepted: false,
      manifests: [
        { rule: 'gate.test/os/*', asked: '1 of k', refusal: { code: 'SIGNATURE_MISSING' } },
      ],
    });
    await sign();
    const { text } = await explain(policy);
    expect(text).toContain('  bundle in sha256:');
    expect(text).toContain(' by k: counts\n');
    expect(text.trimEnd().endsWith('accepted')).toBe(true);
  });
});

describe('a key that is no file', () => {
  const signBy = (key: string, ...more: string[]) =>
    snapgate(
      ...['sign', `oci:${at('image')}:v1`, '--key', key, '--identity', IDENTITY, '--json', ...more],
    );

  it('signs out of a PKCS#11 token', async (ctx) => {
    const skip = softHsmMissing();
    ctx.skip(skip !== undefined, skip);
    const token = await makeToken({ token: 'sign here', key: 'release', pin: '4321' });
    const uri = `pkcs11:token=sign%20here;object=release?module-path=${SOFTHSM_MODULE}`;
    try {
      await writeFile(at('pin'), '4321\n');
      await writeFile(at('wrong'), '0000\n');
      const signed = await signBy(`${uri}&pin-source=file:${at('pin')}`);
      expect(signed.json).toMatchObject({ manifests: [{ bundle: 'added', legacy: 'added' }] });
      const again = await signBy(uri, '--password-file', at('pin'));
      expect(again.json).toMatchObject({
        ...{ keyHint: signed.json.keyHint, manifests: [{ bundle: 'present', legacy: 'present' }] },
      });
      expect((await signBy(uri, '--password-file', at('wrong'))).json).toMatchObject({
        error: { code: 'KEY_INVALID' },
      });
    } finally {
      await token.remove();
    }
  });

  it('is not opened by an address that shows the PIN, or lacks something', async () => {
    for (const uri of [
      'pkcs11:token=t;object=k?module-path=/m.so&pin-value=4321',
      'pkcs11:token=t?module-path=/m.so',
      'pkcs11:token=t;object=k',
      'pkcs11:token=%zz;object=k?module-path=/m.so',
    ]) {
      const refused = await signBy(uri);
      expect(refused.json, uri).toMatchObject({ error: { code: 'USAGE' } });
      expect(JSON.stringify(refused)).not.toContain('4321');
    }
  });

  it.each([
    ['openbao', 'BAO'],
    ['hashivault', 'VAULT'],
  ])('signs by %s', async (scheme, prefix) => {
    const service = await startTransit();
    try {
      expect((await signBy(`${scheme}://release`)).json).toMatchObject({
        error: { code: 'USAGE' },
      });
      vi.stubEnv(`${prefix}_ADDR`, service.url.href);
      vi.stubEnv(`${prefix}_TOKEN`, 'secret');
      expect((await signBy(`${scheme}://release`)).json).toMatchObject({
        manifests: [{ bundle: 'added', legacy: 'added' }],
      });
    } finally {
      await service.close();
    }
  });
});
