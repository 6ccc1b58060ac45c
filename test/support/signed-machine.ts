import type { ServerResponse } from 'node:http';
import { afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { type Digest, sha256 } from '../../shared/digest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { OCI_CONFIG, OCI_MANIFEST } from '../../shared/oci/media-types.ts';
import { type AttackedMachine, useAttackedMachine } from './attacked-machine.ts';
import { IMAGE_NAME, type MachineState } from './fleet.ts';
import { makeBundle, makeKey, putBundle } from './signatures.ts';
import { putBytes, storedManifest } from './tiny-image.ts';

/** Settings of such a machine: what it waits for and takes at most. */
export const SETTINGS = {
  waits: { stallSeconds: 1, answerSeconds: 2 },
  limits: { layerBytes: 8 * 1024 * 1024, windowLog: 21 },
};

/** Whom the policy names, the first of them for images, and somebody else. */
export const [release, second, stranger] = [makeKey(), makeKey(), makeKey()];

/** What attacks on a machine that takes what `release` signed have in common. */
export type SignedMachine = {
  readonly attacked: AttackedMachine;
  /** Writes the policy anew, with what its rule and the key of `release` have besides. */
  usePolicy(rule?: object, key?: object): Promise<void>;
  sign(stored: StoredManifest, key?: typeof release): Promise<Digest>;
  /** Puts an image of one layer as it stands, signed: what it holds is the attack. */
  publishLayer(tar: Uint8Array, packed: Uint8Array, mediaType: string): Promise<void>;
  /** Answers every request for the tag with other bytes. */
  serveAs(bytes: string | Uint8Array, mediaType: string): void;
};

/** Has a machine ready that runs an image; each test must leave it as it was. */
export function useSignedMachine(): SignedMachine {
  const attacked = useAttackedMachine(SETTINGS);
  let before: MachineState;
  const signed: SignedMachine = {
    attacked,
    usePolicy: (rule = {}, key = {}) =>
      attacked.machine.write('policy', {
        version: 1,
        keys: {
          release: { pem: release.publicKey.pem, ...key },
          second: { pem: second.publicKey.pem },
        },
        rules: [{ repository: IMAGE_NAME, images: { signers: ['release'] }, ...rule }],
      }),
    sign: (stored, key = release) =>
      putBundle(attacked.store, stored, makeBundle(key, stored.digest)),
    async publishLayer(tar, packed, mediaType) {
      const { store } = attacked;
      const rootfs = { type: 'layers', diff_ids: [sha256(tar)] };
      const config = { os: 'linux', architecture: 'amd64', rootfs };
      const stored = storedManifest({
        ...{ schemaVersion: 2, mediaType: OCI_MANIFEST },
        config: await putBytes(store, OCI_CONFIG, JSON.stringify(config)),
        layers: [await putBytes(store, mediaType, packed)],
      });
      await store.putManifest(stored, 'stable');
      await signed.sign(stored);
    },
    serveAs(bytes, mediaType) {
      attacked.hostile.tamper = ({ url, method }, response) => {
        if (!isManifest(url) && !isManifest(url, sha256(Buffer.from(bytes)))) return false;
        response.writeHead(200, { 'content-type': mediaType });
        response.end(method === 'HEAD' ? undefined : bytes);
        return true;
      };
    },
  };
  beforeAll(async () => {
    if (attacked.skip !== undefined) return;
    await signed.usePolicy();
    await signed.sign((await attacked.publish('version 1')).stored);
    expect((await attacked.machine.snaphost('update')).status).toBe(0);
  });
  beforeEach(async () => {
    await signed.usePolicy();
    before = await attacked.machine.state();
  });
  afterEach(async () => {
    if (attacked.skip !== undefined) return;
    attacked.hostile.tamper = undefined;
    expect(await attacked.machine.state()).toEqual(before);
  });
  return signed;
}

/** Whether a request is for the manifest of a tag. */
export const isManifest = (url: string | undefined, tag = 'stable') =>
  url === `/v2/os/image/manifests/${tag}`;

/** Sends a body that does not end. */
export function sendEndlessly(response: ServerResponse): void {
  const chunk = Buffer.alloc(64 * 1024, 0x20);
  const more = () => {
    while (response.write(chunk));
  };
  response.on('drain', more);
  more();
}
