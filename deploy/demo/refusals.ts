import { open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf, readDelta, requestDelta } from './ask-gateway.ts';
import { makeKey } from './gateway.ts';
import { addLayer } from './images.ts';
import { bytesOf } from './print.ts';
import type { Json } from './stage.ts';
import { type Cast, publish, REPOSITORY, TAG } from './story.ts';

/** Shows what the machine does not take, and that nothing of it changes. */
export async function showRefusals(cast: Cast): Promise<Json> {
  const { stage, teller, machine } = cast;
  teller.step('What is refused');
  const v3 = await thirdVersion(cast);
  const before = await machine.bootsNext();
  await publish(cast, v3, undefined);
  const unsigned = await refused(cast, 'v3, which nobody has signed yet');
  await publish(cast, v3, await makeKey(stage, 'stranger'));
  const wrongKey = await refused(cast, 'v3, signed with a key that the policy does not name');
  if ((await machine.bootsNext()) !== before)
    throw new Error('a refused image changed the machine');
  await publish(cast, v3, cast.publisher);
  const { gateway, v2 } = cast;
  const target = await digestOf(gateway, REPOSITORY, TAG);
  await corrupt(cast, await requestDelta(stage, gateway, REPOSITORY, v2.config, target));
  const corrupted = await corruptedDelta(cast);
  return { unsigned, wrongKey, corrupted };
}

/** v3: one layer more than v2, with the release file and a library in which some bytes differ. */
async function thirdVersion({ stage, v2, machine }: Cast): Promise<string> {
  const release = stage.path('image-release');
  await writeFile(release, 'IMAGE_ID=snapgate-demo\nIMAGE_VERSION=v3\n');
  const library = stage.path('library');
  const root = join(machine.root, await machine.bootsNext());
  const folder = join(root, 'usr/lib/x86_64-linux-gnu');
  const names = await readdir(folder).catch(() => []);
  const name = names.find((one) => /^libcrypto\.so\.\d+$/.test(one));
  if (name === undefined) return addLayer(stage, v2, 'v3', { '/etc/image-release': release });
  await stage.run(['cp', join(folder, name), library]);
  await flipBits(library, 4096);
  return addLayer(stage, v2, 'v3', {
    '/etc/image-release': release,
    [`/usr/lib/x86_64-linux-gnu/${name}`]: library,
  });
}

/** Runs an update that must be refused. Answers with the code of the refusal. */
async function refused({ teller, line, host }: Cast, what: string): Promise<Json> {
  const bytes = line.bytes();
  const { error, exit } = await host.ask('update');
  if (error === undefined) throw new Error(`the machine took ${what}`);
  const fetched = bytesOf(line.bytes() - bytes);
  teller.good(`${what}: ${error.code}, exit status ${exit}, ${fetched} on the line`);
  return { code: error.code, message: error.message };
}

/** The machine meets the delta that was tampered with, and does without it. */
async function corruptedDelta({ teller, host, machine }: Cast): Promise<Json> {
  const { value, error } = await host.ask('update');
  const reason = (value.fallbackReason ?? error) as Json | string | undefined;
  if (reason === undefined || value.method === 'delta') {
    throw new Error(`the machine took a corrupted delta: ${JSON.stringify(value)}`);
  }
  const text = typeof reason === 'string' ? reason : `${reason.code}: ${reason.message}`;
  teller.good(`a delta in which the registry's disk flipped one bit: ${text}`);
  if (error === undefined)
    teller.say(`  v3 came whole instead, and boots next: ${await machine.bootsNext()}`);
  return { reason: text, method: value.method };
}

/** Flips a bit in the largest layer delta of a delta, on the disk of the registry. */
async function corrupt({ gateway, registryData }: Cast, artifact: string): Promise<void> {
  const { layers } = await readDelta(gateway, REPOSITORY, artifact);
  const [largest] = layers
    // A layer that no delta makes smaller is there as the image has it.
    .filter((one) => one.annotations?.['io.github.containers.delta.content'] === 'image-layer')
    .filter((one) => !one.mediaType.startsWith('application/vnd.oci.image.layer'))
    .sort((a, b) => b.size - a.size);
  if (largest === undefined) throw new Error('the delta has no layer that could be corrupted');
  const hex = largest.digest.replace('sha256:', '');
  const blobs = join(registryData, 'docker/registry/v2/blobs/sha256');
  await flipByte(join(blobs, hex.slice(0, 2), hex, 'data'), Math.floor(largest.size / 2));
}

/** Flips the lowest bit of every byte that stands at a multiple of `step`. */
async function flipBits(path: string, step: number): Promise<void> {
  const bytes = await readFile(path);
  for (let at = 0; at < bytes.length; at += step) bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(path, bytes);
}

async function flipByte(path: string, position: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, position);
    byte[0] = (byte[0] ?? 0) ^ 1;
    await file.write(byte, 0, 1, position);
  } finally {
    await file.close();
  }
}
