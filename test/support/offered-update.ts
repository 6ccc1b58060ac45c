import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { type Digest, sha256 } from '../../shared/digest.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import {
  OCI_CONFIG,
  OCI_LAYER_GZIP,
  OCI_LAYER_ZSTD,
  OCI_MANIFEST,
} from '../../shared/oci/media-types.ts';
import { type Fleet, fleetSkipReason, startFleet, TestMachine } from './fleet.ts';
import { startTamperingProxy, type TamperingProxy } from './tampering-proxy.ts';
import { putBytes, putTinyImage, storedManifest, type TinyImage } from './tiny-image.ts';

/** A layer that an image is published with, whatever it holds and claims. */
export type ClaimedLayer = Descriptor & { readonly diffId: string };

/** Content of the file that an update changes a few bytes of, and a layer that stays. */
export const content = randomBytes(400_000);
export const base = { 'usr/lib/base.so': randomBytes(300_000) };
/** Short waits, so that what never answers is given up soon. */
export const waits = { answerSeconds: 2, stallSeconds: 2, storageSeconds: 1 };

/** A machine that runs one image, and its update: what comes of it is for a test to spoil. */
export class OfferedUpdate {
  /** Why there can be none here, or undefined when it can. */
  readonly skip = fleetSkipReason();
  fleet!: Fleet;
  /** Between the machine and its gateway. */
  proxy!: TamperingProxy;
  machine!: TestMachine;
  /** The update that is on offer, with which nothing is wrong. */
  good!: TinyImage;
  /** The machine as it must stay. */
  state!: ReturnType<OfferedUpdate['look']>;

  async start(): Promise<void> {
    this.fleet = await startFleet();
    this.proxy = await startTamperingProxy(this.fleet.gateway.url);
    const { proxy, fleet } = this;
    this.machine = await TestMachine.create(proxy.url, fleet.policy, { config: { waits } });
    const put = (library: Buffer) =>
      putTinyImage(fleet.repository, [base, { 'usr/lib/lib.so': library }], { tag: 'stable' });
    await put(content);
    expect(await this.machine.snaphost('update')).toMatchObject({ status: 0 });
    this.state = this.look();
    this.good = await put(Buffer.from(content).fill('y', 100_000, 100_100));
  }

  /** Takes back what a test spoilt. */
  async reset(): Promise<void> {
    this.proxy.handle = undefined;
    await this.configure();
    await this.machine.write('policy', this.fleet.policy);
    await this.fleet.repository.putManifest(this.good.stored, 'stable');
  }

  async stop(): Promise<void> {
    await this.machine.remove();
    await this.proxy.stop();
    await this.fleet.stop();
  }

  /** Where the machine keeps what it fetched. */
  get downloads(): string {
    return join(this.machine.root, 'var/lib/snaphost/downloads');
  }

  /** The layer that the update changes. */
  get layer(): Descriptor {
    return this.good.layers[1] as Descriptor;
  }

  async configure(more: object = {}): Promise<void> {
    await this.machine.configure(this.proxy.url, { waits, ...more });
  }

  /** All that a refusal must not change. */
  look(on: TestMachine = this.machine) {
    return {
      next: on.bootsNext(),
      subvolumes: on.subvolumes(),
      images: on.podman('images', '--no-trunc', '--format', '{{.ID}} {{.Repository}}:{{.Tag}}'),
    };
  }

  /** Expects one clear error, a status of its own, and a machine as it was. */
  async expectRefusal(code: string, status: number, ...args: string[]) {
    const answer = await this.machine.snaphost('update', ...args);
    expect(answer.json).toMatchObject({ error: { code, message: expect.stringMatching(/./) } });
    expect(answer.status).toBe(status);
    expect(answer.stderr).toBe('');
    expect(this.look()).toEqual(this.state);
    const last = await this.machine.snaphost('status');
    expect(last.json.lastAttempt).toMatchObject({ result: 'failed', error: { code } });
    return answer.json.error;
  }

  /** Changes what comes for one blob. */
  changeBlob(digest: Digest, change: (body: Buffer) => Buffer): void {
    this.proxy.handle = ({ request, pass }) =>
      isBlob(digest, request.url)
        ? pass((answer) => ({ ...answer, body: change(answer.body) }))
        : pass();
  }

  /** Puts a layer where the gateway finds it. */
  async layerOf(tar: Buffer, packing: 'gzip' | 'zstd' = 'gzip'): Promise<ClaimedLayer> {
    const [type, bytes] =
      packing === 'gzip'
        ? [OCI_LAYER_GZIP, gzipSync(tar)]
        : [OCI_LAYER_ZSTD, zstdCompressSync(tar)];
    return { ...(await putBytes(this.fleet.repository, type, bytes)), diffId: sha256(tar) };
  }

  /** Offers an image of layers made by hand in place of the good one. */
  async publish(layers: readonly ClaimedLayer[]): Promise<void> {
    const rootfs = { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) };
    const json = JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs });
    const config = await putBytes(this.fleet.repository, OCI_CONFIG, json);
    const manifest = storedManifest({
      ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, config },
      layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
    });
    await this.fleet.repository.putManifest(manifest, 'stable');
  }
}

/** Has one ready for the tests of a file, as it was for each; they skip where there can be none. */
export function useOfferedUpdate(): OfferedUpdate {
  const offer = new OfferedUpdate();
  const { skip } = offer;
  beforeAll(async () => {
    if (skip === undefined) await offer.start();
  });
  afterAll(async () => {
    if (skip === undefined) await offer.stop();
  });
  beforeEach((ctx) => ctx.skip(skip !== undefined, skip));
  afterEach(async () => {
    if (skip === undefined) await offer.reset();
  });
  return offer;
}

/** Whether a request is for a blob. */
export const isBlob = (digest: string, url = ''): boolean => url.endsWith(`/blobs/${digest}`);
