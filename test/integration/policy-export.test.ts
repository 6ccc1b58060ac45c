import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signImage } from '../../gateway/signing/sign-image.ts';
import { keySigner } from '../../gateway/signing/signer.ts';
import { createTransport } from '../../gateway/upstream/transport.ts';
import { parsePolicy } from '../../shared/policy/policy.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { type Peer, peerMissing, peerPath } from '../support/peers.ts';
import { hasRegistry, startRegistry, type TestRegistry } from '../support/registry.ts';
import { runProgramFile, snapgate } from '../support/run-program.ts';
import { makeKey } from '../support/signatures.ts';
import { putTinyImage } from '../support/tiny-image.ts';

const keys = { a: makeKey(), b: makeKey(), c: makeKey() };
const pull = ['copy', '--src-tls-verify=false'];
let registry: TestRegistry;
let transport: ReturnType<typeof createTransport>;
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'snapgate-export-'));
  if (!hasRegistry()) return;
  registry = await startRegistry();
  transport = createTransport();
});
afterAll(async () => {
  await transport?.close();
  await registry?.stop();
  await rm(home, { recursive: true, force: true });
});

const missing = (...peers: Peer[]) =>
  hasRegistry() ? peerMissing(...peers) : 'docker-registry is not installed';

/** Exports a policy of ours with the command itself, to where the tools look for theirs. */
async function exportPolicy(rules: object[]): Promise<string> {
  const pems = Object.entries(keys).map(([name, { publicKey }]) => [name, { pem: publicKey.pem }]);
  const file = join(home, 'ours.json');
  await writeFile(file, JSON.stringify({ version: 1, keys: Object.fromEntries(pems), rules }));
  const { status, stdout, stderr } = await snapgate(['policy', 'export', '--policy', file]);
  expect(status, stderr).toBe(0);
  const folder = join(home, '.config', 'containers');
  await mkdir(join(folder, 'registries.d'), { recursive: true });
  await writeFile(join(folder, 'policy.json'), stdout);
  const lookaside = { docker: { [registry.host]: { 'use-sigstore-attachments': true } } };
  await writeFile(join(folder, 'registries.d', 'test.yaml'), JSON.stringify(lookaside));
  return folder;
}

/** An image that some have signed. */
async function publish(repository: string, ...signers: (keyof typeof keys)[]): Promise<string> {
  const baseUrl = new URL(registry.url);
  const store = new Repository({ transport: transport.transport, baseUrl, repository });
  const { stored } = await putTinyImage(store, [{ etc: repository }], { tag: 'v1' });
  const dockerReference = `${registry.host}/${repository}:v1`;
  for (const name of signers) {
    await signImage(store, stored, { signer: keySigner(keys[name].privateKey), dockerReference });
  }
  return dockerReference;
}

describe('an exported policy', () => {
  it('is judged by skopeo and Podman as it is here', async (ctx) => {
    const reason = missing('skopeo-sid', 'podman5');
    ctx.skip(reason !== undefined, reason);
    const images = { signers: ['a', 'b', 'c'], threshold: 2 };
    const folder = await exportPolicy([{ repository: `${registry.host}/os/*`, images }]);
    const policy = ['--policy', join(folder, 'policy.json')];
    const found = ['--registries.d', join(folder, 'registries.d')];
    const env = { HOME: home };
    const skopeo = (reference: string, to: string) => {
      const copy = [...policy, ...found, ...pull, `docker://${reference}`, `dir:${home}/${to}`];
      return runProgramFile(peerPath('skopeo-sid'), copy, { env });
    };
    const storage = [...['--root', `${home}/root`, '--runroot', `${home}/run`], '--storage-driver'];
    const podman = (reference: string) => {
      const args = [...storage, 'vfs', 'pull', '-q', '--tls-verify=false', reference];
      return runProgramFile(peerPath('podman5'), args, { env });
    };
    const two = await publish('os/two', 'a', 'c');
    const one = await publish('os/one', 'b');
    const elsewhere = await publish('apps/two', 'a', 'b');
    for (const judge of [(ref: string) => skopeo(ref, ref.replace(/\W/g, '')), podman]) {
      expect(await judge(two)).toMatchObject({ status: 0 });
      for (const refused of [one, elsewhere]) {
        const ended = await judge(refused);
        expect(ended.status, ended.stderr).not.toBe(0);
        expect(ended.stderr).toMatch(/signature|rejected/i);
      }
    }
    // And back again, by the machine's own command.
    const main = fileURLToPath(new URL('../../host-client/main.ts', import.meta.url));
    const args = [main, 'policy', 'import', join(folder, 'policy.json')];
    const imported = await runProgramFile(process.execPath, args);
    expect(imported.status, imported.stderr).toBe(0);
    const { rules } = parsePolicy(imported.stdout);
    expect(rules.map(({ repository }) => repository)).toContain(`${registry.host}/os/*`);
    expect(JSON.parse(await readFile(join(folder, 'policy.json'), 'utf8')).default).toEqual([
      { type: 'reject' },
    ]);
  });
});
