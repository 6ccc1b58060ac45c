import { mkdtemp, rm } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Metadata, Targets } from '@tufjs/models';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Signer } from '../../../gateway/signing/signer.ts';
import { delegate, removeTarget } from '../../../gateway/tuf/edit.ts';
import { rotate } from '../../../gateway/tuf/rotate.ts';
import { addSignature } from '../../../gateway/tuf/sign.ts';
import type { Repository } from '../../../shared/registry/repository.ts';
import { encodeMetadata, parseMetadata, tufKey } from '../../../shared/tuf/metadata.ts';
import { roleFile } from '../../../shared/tuf/roles.ts';
import { refused, useAttackedMachine } from '../../support/attacked-machine.ts';
import { IMAGE_NAME, type MachineState, type TestMachine } from '../../support/fleet.ts';
import type { HostileRegistry } from '../../support/hostile-registry.ts';
import { makeBundle, makeKey, putBundle } from '../../support/signatures.ts';
import { putTinyImage, type TinyImage } from '../../support/tiny-image.ts';
import { newSigner, roleOf, TestTuf } from '../../support/tuf.ts';

const PATH = 'os/image/stable';
const DAY_MS = 86_400_000;
const attacked = useAttackedMachine();
const release = makeKey();
const idOf = (signer: Signer) => tufKey(signer.publicKey).keyID;
let dir: string;
let hostile: HostileRegistry;
let store: Repository;
let machine: TestMachine;
let tuf: TestTuf;
let names = 0;
/** The image that the machine runs, and one that is older. */
let current: TinyImage;
let older: TinyImage;
let before: MachineState;
/** Files that are served in place of the repository's; undefined for one that is not there. */
const instead = new Map<string, Uint8Array | undefined>();

async function publish(text: string): Promise<TinyImage> {
  const image = await putTinyImage(store, [{ 'etc/os': text }], { tag: 'stable' });
  await putBundle(store, image.stored, makeBundle(release, image.stored.digest));
  return image;
}
const state = (image: TinyImage, role?: string) =>
  tuf.stateChannel(PATH, image.stored, { config: image.config }, role);
const file = async (name: string) => {
  const bytes = await tuf.folder.metadata(name);
  if (bytes === undefined) throw new Error(`there is no ${name}`);
  return bytes;
};
const newest = async (role: string) => {
  const version = role === 'timestamp' ? 1 : (await tuf.folder.versions(role)).at(-1);
  const name = roleFile(role, version ?? 0);
  return { name, bytes: await file(name) };
};

/** Answers for the gateway out of the folder and what an attack puts in its place. */
function serve(url: string, response: ServerResponse): void {
  const name = url.slice('/tuf/metadata/'.length);
  const bytes = instead.has(name) ? instead.get(name) : tuf.folder.metadata(name);
  void Promise.resolve(bytes).then((found) =>
    response.writeHead(found === undefined ? 404 : 200).end(found),
  );
}
const honest = () => {
  instead.clear();
  hostile.tamper = ({ url = '' }, response) => {
    if (!url.startsWith('/tuf/metadata/')) return false;
    serve(url, response);
    return true;
  };
};

async function policy(more: object = {}): Promise<void> {
  const root = JSON.parse(String(await file('1.root.json')));
  const channel = { root: `os${names}`, ...more };
  await machine.write('policy', {
    ...{ version: 1, keys: { release: { pem: release.publicKey.pem } } },
    channelRoots: { [`os${names}`]: root },
    rules: [{ repository: IMAGE_NAME, images: { signers: ['release'] }, channel }],
  });
}

/** Changes the metadata of a role and signs it with keys of the thief's choice. */
async function forge(
  kind: 'root' | 'targets' | 'snapshot' | 'timestamp',
  change: Record<string, unknown>,
  signers: readonly Signer[],
): Promise<Uint8Array> {
  const json = JSON.parse(String((await newest(kind)).bytes));
  const bytes = Buffer.from(
    JSON.stringify({ signatures: [], signed: { ...json.signed, ...change } }),
  );
  const metadata = parseMetadata(kind, bytes, kind);
  for (const signer of signers) await addSignature(metadata, signer);
  return encodeMetadata(metadata);
}

beforeAll(async () => {
  if (attacked.skip !== undefined) return;
  dir = await mkdtemp(join(tmpdir(), 'snapgate-channel-attacks-'));
  ({ machine, hostile, store } = attacked);
  older = await publish('version 1');
  current = await publish('version 2');
});
afterAll(async () => {
  if (attacked.skip !== undefined) return;
  await rm(dir, { recursive: true, force: true });
});
/** Each attack begins with a repository of its own, whose second statement the machine follows. */
beforeEach(async () => {
  names += 1;
  tuf = await TestTuf.create(join(dir, `tuf${names}`));
  await state(older);
  await tuf.publish();
  await state(current);
  await tuf.publish();
  honest();
  await policy();
  expect(await attacked.update()).toMatchObject({ to: current.stored.digest });
  before = await machine.state();
});
afterEach(async () => {
  if (attacked.skip !== undefined) return;
  expect(await machine.state()).toEqual(before);
});

describe('a channel', () => {
  it('whose tag was moved back to an older signed image', async () => {
    await store.putManifest(older.stored, 'stable');
    expect(await attacked.update()).toMatchObject({ to: current.stored.digest, method: 'none' });
    expect((await machine.snaphost('status')).json).toMatchObject({
      channel: { path: PATH, digest: current.stored.digest, statement: 3, floor: null },
    });
  });

  it('whose metadata is older than what was seen', async () => {
    const old = await newest('timestamp');
    await tuf.stateChannel('os/other/a', older.stored);
    await tuf.publish();
    expect(await attacked.update()).toMatchObject({ method: 'none' });
    instead.set(old.name, old.bytes);
    expect(await attacked.update()).toMatchObject(
      refused('METADATA_ROLLBACK', /timestamp version/),
    );
  });

  it('whose snapshot forgets what it named before', async () => {
    const { snapshot, timestamp } = tuf.keys;
    const version = 9;
    const meta = { 'targets.json': { version: 1 } };
    instead.set('9.snapshot.json', await forge('snapshot', { version, meta }, [snapshot]));
    const named = { 'snapshot.json': { version } };
    instead.set('timestamp.json', await forge('timestamp', { version, meta: named }, [timestamp]));
    expect(await attacked.update()).toMatchObject(refused('METADATA_ROLLBACK', /targets\.json/));
  });

  it('that is frozen', async () => {
    await policy({ maximumAgeSeconds: 3600 });
    tuf.now = new Date(Date.now() - 7200 * 1000);
    await rm(join(tuf.folder.dir, 'metadata/timestamp.json'));
    await tuf.online({ timestampSeconds: 30 * 86_400 });
    // The same repository on a machine that has seen nothing newer.
    names += 1;
    await policy({ maximumAgeSeconds: 3600 });
    expect(await attacked.update()).toMatchObject(refused('METADATA_FROZEN', /was signed at/));
  });

  it('that expired', async () => {
    tuf.now = new Date(Date.now() - 3 * DAY_MS);
    await rm(join(tuf.folder.dir, 'metadata/timestamp.json'));
    await tuf.online();
    names += 1;
    await policy();
    expect(await attacked.update()).toMatchObject(refused('METADATA_EXPIRED', /timestamp/));
    expect((await machine.snaphost('policy', 'test')).json).toMatchObject({
      ...{ accepted: false, manifests: [] },
      channel: { path: PATH, digest: null, refusal: { code: 'METADATA_EXPIRED' } },
    });
  });

  it('put together from two times', async () => {
    const old = await newest('targets');
    await tuf.stateChannel('os/other/a', older.stored);
    await tuf.publish();
    instead.set((await newest('targets')).name, old.bytes);
    expect(await attacked.update()).toMatchObject(
      refused('METADATA_MISMATCH', /Expected (hash|length)/),
    );
  });

  it('whose next root too few have signed', async () => {
    const { root } = tuf.keys;
    instead.set('2.root.json', await forge('root', { version: 2 }, [root[0], newSigner()]));
    expect(await attacked.update()).toMatchObject(
      refused('METADATA_UNSIGNED', /root was signed by 1\/2/),
    );
  });

  it('whose next root leaves one out', async () => {
    const { root } = tuf.keys;
    instead.set('2.root.json', await forge('root', { version: 3 }, root.slice(0, 2)));
    expect(await attacked.update()).toMatchObject(
      refused('METADATA_MISMATCH', /Expected version 2/),
    );
  });

  it('that a revoked key speaks of', async () => {
    const thief = newSigner();
    const [kept, lost] = tuf.keys.targets;
    const revoke = { add: [], remove: [idOf(lost)], threshold: undefined };
    await rotate(tuf.folder, await tuf.state(), 'targets', revoke, { now: tuf.now });
    tuf.keys.targets = [kept, kept];
    await tuf.publish();
    const target = JSON.parse(String((await newest('targets')).bytes)).signed.targets;
    const { snapshot, timestamp } = tuf.keys;
    // The thief has the gateway's keys, too.
    const forged = await forge('targets', { version: 9, targets: target }, [lost, thief]);
    instead.set('9.targets.json', forged);
    const meta = { 'targets.json': { version: 9 } };
    instead.set('9.snapshot.json', await forge('snapshot', { version: 9, meta }, [snapshot]));
    const named = { 'snapshot.json': { version: 9 } };
    instead.set(
      'timestamp.json',
      await forge('timestamp', { version: 9, meta: named }, [timestamp]),
    );
    expect(await attacked.update()).toMatchObject(
      refused('METADATA_UNSIGNED', /targets was signed by 0/),
    );
    // That the key is gone stays known, although nothing else was taken.
    instead.set('2.root.json', undefined);
    expect(await attacked.update()).toMatchObject(
      refused('METADATA_UNSIGNED', /targets was signed by 0/),
    );
  });

  it('that a role speaks of to which only others were delegated', async () => {
    const team = newSigner();
    const asked = { ...roleOf([team], 1), pattern: 'apps/*' };
    await delegate(tuf.folder, await tuf.state(), 'apps', asked, { now: tuf.now });
    await tuf.publish([team]);
    const json = JSON.parse(String((await newest('targets')).bytes));
    const stolen = json.signed.targets[PATH];
    // The owner takes the statement back, and the team claims the path.
    await removeTarget(tuf.folder, await tuf.state(), 'targets', PATH, { now: tuf.now });
    const claim = { ...JSON.parse(String(await file('1.apps.json'))).signed, version: 2 };
    claim.targets = { [PATH]: stolen };
    await tuf.folder.stage('apps', new Metadata(Targets.fromJSON(claim)));
    await tuf.publish([team]);
    expect(await attacked.update()).toMatchObject(refused('CHANNEL_UNKNOWN'));
  });

  it('stated with another length or another config', async () => {
    const { digest, bytes } = older.stored;
    const about = { digest, mediaType: older.stored.mediaType };
    await tuf.stateChannel(PATH, { ...about, bytes: bytes.subarray(1) }, { config: older.config });
    await tuf.publish();
    expect(await attacked.update()).toMatchObject(refused('METADATA_MISMATCH', /bytes where/));
    await tuf.stateChannel(PATH, older.stored, { config: current.config });
    await tuf.publish();
    expect(await attacked.update()).toMatchObject(
      refused('METADATA_MISMATCH', /does not name config/),
    );
  });

  it('whose image is served as another one', async () => {
    const next = await publish('version 3');
    await state(next);
    await tuf.publish();
    const metadata = hostile.tamper;
    hostile.tamper = (request, response) => {
      if (metadata?.(request, response)) return true;
      if (!request.url?.endsWith(`/manifests/${next.stored.digest}`)) return false;
      response.writeHead(200, { 'content-type': older.stored.mediaType });
      response.end(older.stored.bytes);
      return true;
    };
    expect(await attacked.update()).toMatchObject(refused('DIGEST_INVALID'));
  });

  it('stated for an image that nobody signed', async () => {
    const unsigned = await putTinyImage(store, [{ 'etc/os': 'unsigned' }]);
    await state(unsigned);
    await tuf.publish();
    expect(await attacked.update()).toMatchObject(refused('SIGNATURE_MISSING'));
    const { digest } = unsigned.stored;
    expect((await machine.snaphost('policy', 'test')).json).toMatchObject({
      ...{ accepted: false, channel: { digest, role: 'targets', statement: 4, refusal: null } },
      manifests: [{ digest, refusal: { code: 'SIGNATURE_MISSING' } }],
    });
  });

  it.each(['timestamp.json', '2.root.json'])('with a %s that does not end', async (name) => {
    const chunk = Buffer.alloc(64 * 1024, 0x20);
    const metadata = hostile.tamper;
    hostile.tamper = (request, response) => {
      if (!request.url?.endsWith(name)) return metadata?.(request, response);
      response.writeHead(200);
      const more = () => {
        while (response.write(chunk));
      };
      response.on('drain', more);
      more();
      return true;
    };
    expect(await attacked.update()).toMatchObject(refused('LIMIT_EXCEEDED'));
  });

  it('with metadata that drips', async () => {
    // What bounds it is the time for all of it: none of its pauses is long.
    await machine.configure(hostile.url, { waits: { metadataSeconds: 3 } });
    const metadata = hostile.tamper;
    const timers: NodeJS.Timeout[] = [];
    hostile.tamper = (request, response) => {
      if (!request.url?.endsWith('timestamp.json')) return metadata?.(request, response);
      response.writeHead(200).write('{');
      timers.push(setInterval(() => response.write(' '), 300));
      return true;
    };
    expect(await attacked.update()).toMatchObject(refused('UPSTREAM_TIMEOUT', /metadata/));
    for (const timer of timers) clearInterval(timer);
    await machine.configure(hostile.url);
  });

  it('with roots without end', async () => {
    const root = await file('1.root.json');
    hostile.paths.length = 0;
    const metadata = hostile.tamper;
    hostile.tamper = (request, response) => {
      if (!request.url?.endsWith('.root.json')) return metadata?.(request, response);
      response.writeHead(200).end(root);
      return true;
    };
    expect(await attacked.update()).toMatchObject(refused('METADATA_MISMATCH', /Expected version/));
    expect(hostile.paths.length).toBeLessThan(10);
  });

  it('with a key twice in its metadata, or none at all', async () => {
    const { bytes } = await newest('timestamp');
    instead.set('timestamp.json', Buffer.from(String(bytes).replace('{', '{"signed":{},')));
    expect(await attacked.update()).toMatchObject(refused('METADATA_INVALID', /twice/));
    instead.set('timestamp.json', undefined);
    expect(await attacked.update()).toMatchObject(refused('METADATA_MISSING'));
  });

  it('fast-forwarded by a thief, recovers with new keys', async () => {
    const { snapshot, timestamp } = tuf.keys;
    const far = Number.MAX_SAFE_INTEGER - 1;
    const { meta } = JSON.parse(String((await newest('snapshot')).bytes)).signed;
    const snapshots = await forge('snapshot', { version: far, meta }, [snapshot]);
    instead.set(`${far}.snapshot.json`, snapshots);
    const named = { 'snapshot.json': { version: far } };
    instead.set(
      'timestamp.json',
      await forge('timestamp', { version: far, meta: named }, [timestamp]),
    );
    expect(await attacked.update()).toMatchObject({ method: 'none' });
    instead.clear();
    expect(await attacked.update()).toMatchObject(refused('METADATA_ROLLBACK'));
    for (const role of ['snapshot', 'timestamp'] as const) {
      const heir = newSigner();
      const change = { add: [heir.publicKey], remove: [idOf(tuf.keys[role])], threshold: 1 };
      await rotate(tuf.folder, await tuf.state(), role, change, { now: tuf.now });
      tuf.keys[role] = heir;
      await tuf.publish();
    }
    expect(await attacked.update()).toMatchObject({ to: current.stored.digest, method: 'none' });
  });
});
