import { open, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeKey } from './gateway.ts';
import { addLayer } from './images.ts';
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
  await publish(cast, v3);
  const target = await digestOf(cast);
  const artifact = await requestDelta(cast, cast.v2.digest, target);
  await corrupt(cast, artifact);
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
  await flipByte(library, 4096);
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
  teller.good(`${what}: ${error.code}, exit status ${exit}, ${line.bytes() - bytes} bytes fetched`);
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

async function digestOf({ gateway }: Cast): Promise<string> {
  const answer = await fetch(`http://${gateway}/v2/${REPOSITORY}/manifests/${TAG}`, {
    method: 'HEAD',
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  const digest = answer.headers.get('docker-content-digest');
  if (digest === null) throw new Error(`the gateway named no digest (${answer.status})`);
  return digest;
}

/** Has the gateway make a delta, as a machine would. Answers with the digest of its manifest. */
async function requestDelta(
  { stage, gateway }: Cast,
  source: string,
  target: string,
): Promise<string> {
  const url = new URL(`http://${gateway}/v2/${REPOSITORY}/_snapgate/deltas`);
  let answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ source, target }),
  });
  for (;;) {
    const job = (await answer.json()) as {
      state?: string;
      artifact?: { digest: string };
      error?: Json;
    };
    if (job.artifact !== undefined) return job.artifact.digest;
    if (answer.status !== 202) throw new Error(`no delta was made: ${JSON.stringify(job)}`);
    const next = new URL(answer.headers.get('location') ?? '', url);
    await sleep(200, undefined, { signal: stage.signal });
    answer = await fetch(next);
  }
}

/** Flips a bit in the largest blob of a delta, on the disk of the registry. */
async function corrupt({ gateway, registryData }: Cast, artifact: string): Promise<void> {
  const url = `http://${gateway}/v2/${REPOSITORY}/manifests/${artifact}`;
  const answer = await fetch(url, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  const { layers } = (await answer.json()) as {
    layers: { digest: string; size: number; annotations?: Record<string, string> }[];
  };
  const [largest] = layers
    .filter((one) => one.annotations?.['io.github.containers.delta.content'] === 'image-layer')
    .sort((a, b) => b.size - a.size);
  if (largest === undefined) throw new Error('the delta has no layer that could be corrupted');
  const hex = largest.digest.replace('sha256:', '');
  const blobs = join(registryData, 'docker/registry/v2/blobs/sha256');
  await flipByte(join(blobs, hex.slice(0, 2), hex, 'data'), Math.floor(largest.size / 2));
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
