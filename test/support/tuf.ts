import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decryptKey, generateKey } from '../../gateway/signing/encrypted-key.ts';
import { keySigner, type Signer } from '../../gateway/signing/signer.ts';
import { addTarget, initRepository, type RoleSetup } from '../../gateway/tuf/edit.ts';
import { TufFolder } from '../../gateway/tuf/folder.ts';
import { type OnlineSigning, signOnline } from '../../gateway/tuf/online.ts';
import { publishStaged } from '../../gateway/tuf/publish.ts';
import { signStaged } from '../../gateway/tuf/sign.ts';
import { readState } from '../../gateway/tuf/state.ts';
import type { MetadataSource } from '../../host-client/channel/metadata-source.ts';
import { refreshChannel } from '../../host-client/channel/refresh.ts';
import { TrustedMetadata } from '../../host-client/channel/trusted-metadata.ts';
import type { Digest } from '../../shared/digest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import type { Statement } from '../../shared/tuf/statement.ts';
import type { FoundStatement } from '../../shared/tuf/view.ts';

export const newSigner = (): Signer =>
  keySigner(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);

/** A new key in the files that the gateway reads. */
export async function keyFiles(dir: string, name: string) {
  const key = generateKey('word');
  const at = (end: string) => join(dir, `${name}.${end}`);
  await writeFile(at('key'), key.privatePem);
  await writeFile(at('pub'), key.publicPem);
  await writeFile(at('word'), 'word');
  const signer = keySigner(decryptKey(key.privatePem, 'word'));
  return { signer, place: { key: at('key'), passwordFile: at('word') }, publicFile: at('pub') };
}

/** A role of some keys, of which as many must sign. */
export const roleOf = (signers: readonly Signer[], threshold: number): RoleSetup => ({
  keys: signers.map(({ publicKey }) => publicKey),
  threshold,
});

/** The keys of a repository for tests. */
export type TufKeys = {
  root: [Signer, Signer, Signer];
  targets: [Signer, Signer];
  snapshot: Signer;
  timestamp: Signer;
};

/** A repository with all its keys at hand. */
export class TestTuf {
  readonly folder: TufFolder;
  readonly keys: TufKeys;
  /** The time at which it is worked on. */
  now = new Date();

  private constructor(folder: TufFolder, keys: TufKeys) {
    this.folder = folder;
    this.keys = keys;
  }

  /** Makes one that is published and states nothing: 2 of 3 root keys, 1 of 2 for targets. */
  static async create(
    dir: string,
    now = new Date(),
    online: { snapshot?: Signer; timestamp?: Signer } = {},
  ): Promise<TestTuf> {
    const keys: TufKeys = {
      root: [newSigner(), newSigner(), newSigner()],
      targets: [newSigner(), newSigner()],
      snapshot: newSigner(),
      timestamp: newSigner(),
      ...online,
    };
    const tuf = new TestTuf(await TufFolder.create(dir), keys);
    tuf.now = now;
    const setup = {
      root: roleOf(keys.root, 2),
      targets: roleOf(keys.targets, 1),
      snapshot: roleOf([keys.snapshot], 1),
      timestamp: roleOf([keys.timestamp], 1),
    };
    await initRepository(tuf.folder, setup, { now });
    await tuf.publish();
    return tuf;
  }

  state() {
    return readState(this.folder);
  }

  /** Signs what is staged with every key that is at hand and may, and publishes it. */
  async publish(more: readonly Signer[] = []): Promise<void> {
    for (const signer of [...this.keys.root.slice(0, 2), ...this.keys.targets, ...more]) {
      await signStaged(this.folder, await this.state(), signer).catch(() => {});
    }
    await publishStaged(this.folder, await this.state());
    await this.online();
  }

  online(times: Partial<OnlineSigning> = {}) {
    const { snapshot, timestamp } = this.keys;
    const seconds = { snapshotSeconds: 7 * 86_400, timestampSeconds: 86_400 };
    return signOnline(this.folder, { snapshot, timestamp, ...seconds, ...times }, this.now);
  }

  /** States what a channel means, without publishing it. */
  async stateChannel(
    path: string,
    stored: StoredManifest,
    custom: Partial<Statement> & { config?: Digest } = {},
    role = 'targets',
    days?: number,
  ): Promise<void> {
    const { config = stored.digest, ...more } = custom;
    const images = [{ platform: 'linux/amd64', config }];
    const { digest, bytes } = stored;
    const statement = { path, digest, length: bytes.length, images, ...more };
    await addTarget(
      this.folder,
      await this.state(),
      { role, statement, stored },
      { now: this.now, days },
    );
  }
}

/** The metadata that stands in a repository's folder, without any server. */
export function folderMetadata(folder: TufFolder): MetadataSource {
  return { name: 'folder:', read: ({ file }) => folder.metadata(file) };
}

/** A client that trusts what a repository's first root leads to. */
export class TufClient {
  readonly trusted: TrustedMetadata;
  readonly anchor: Uint8Array;
  source: MetadataSource;
  now: () => Date;

  private constructor(dir: string, anchor: Uint8Array, source: MetadataSource, now: () => Date) {
    this.trusted = new TrustedMetadata(dir);
    this.anchor = anchor;
    this.source = source;
    this.now = now;
  }

  static async of(tuf: TestTuf, dir: string): Promise<TufClient> {
    const anchor = await tuf.folder.metadata('1.root.json');
    if (anchor === undefined) throw new Error('the repository has no root');
    return new TufClient(dir, anchor, folderMetadata(tuf.folder), () => tuf.now);
  }

  static over(folder: TufFolder, dir: string, anchor: Uint8Array): TufClient {
    return new TufClient(dir, anchor, folderMetadata(folder), () => new Date());
  }

  /** Refreshes, and finds what a channel means. */
  async find(path: string): Promise<FoundStatement> {
    const { anchor, source, trusted } = this;
    const options = { anchor, source, path, now: this.now, timeoutMs: 60_000 };
    return (await refreshChannel(trusted, options)).found;
  }
}
