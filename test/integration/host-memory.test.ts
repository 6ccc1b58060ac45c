import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundle } from '../../deploy/package/bundle.ts';
import { installedKoffi } from '../../deploy/package/target.ts';
import { type Fleet, fleetSkipReason, startFleet, TestMachine } from '../support/fleet.ts';
import { hasProgram } from '../support/has-program.ts';
import { putTinyImage, type TinyFiles, type TinyImage } from '../support/tiny-image.ts';
import { prepareWay, type UpdateWay } from '../support/update-ways.ts';

/**
 * Less than the 128 MiB that an update may have resident at any time: images of whole systems take
 * up to 30 MB more than these.
 */
const LIMIT = 112 * 1024 * 1024;
const WAYS: readonly UpdateWay[] = ['whole', 'tar-diff', 'plain', 'recompressing'];

const PIPE = { maxBuffer: 2 ** 28 };

const skipReason = fleetSkipReason();
const library = randomBytes(8 * 1024 * 1024);
const words = Array.from({ length: 4096 }, () => randomBytes(6).toString('base64'));

let fleet: Fleet;
let machine: TestMachine;
let folder: string;
let held: TinyImage;

beforeAll(async () => {
  if (skipReason !== undefined) return;
  folder = await mkdtemp(join(tmpdir(), 'snapgate-memory-'));
  const client = join(folder, 'snaphost.mjs');
  await bundle(client, 'esm', installedKoffi());
  fleet = await startFleet();
  machine = await TestMachine.create(fleet.gateway.url, fleet.policy, { sizeMiB: 4096 });
  machine.client = [process.execPath, client];
  held = await publish(0);
});

afterAll(async () => {
  if (skipReason !== undefined) return;
  await machine.remove();
  await fleet.stop();
  await rm(folder, { recursive: true });
});

/** Large and small files: some new, some changed a little, some packed. */
function version(n: number): TinyFiles {
  const changed = Buffer.from(library);
  for (let at = 0; at < changed.length; at += 4000) changed.writeUInt32LE(n, at);
  const files: Record<string, Uint8Array | string> = {
    'usr/lib/changed.so': changed,
    'usr/lib/new.so': randomBytes(10 * 1024 * 1024),
  };
  for (let i = 0; i < 1500; i += 1)
    files[`usr/share/${i % 40}/${i}`] = `${i % 7 === 0 ? n : 0} ${i}`;
  const text = Array.from({ length: 500_000 }, (_, i) => words[(i * i + (i >> 9)) % 4096]);
  text[1000] = String(n);
  const input = text.join(' ');
  if (hasProgram('zstd'))
    files['boot/initrd'] = execFileSync('zstd', ['-9', '-T1', '-c'], { ...PIPE, input });
  if (hasProgram('gzip'))
    files['usr/share/text.gz'] = execFileSync('gzip', ['-9n'], { ...PIPE, input });
  return files;
}

async function publish(n: number): Promise<TinyImage> {
  return putTinyImage(fleet.repository, [version(n)], { tag: 'stable' });
}

describe('the memory of the one-file client', () => {
  it('stays below its limit when a bare machine takes an image', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const { json } = await machine.snaphost('update');
    expect(json).toMatchObject({ method: 'full', fallbackReason: null });
    expect(json.peakRssBytes).toBeLessThan(LIMIT);
  });

  it.for(WAYS.map((way, i) => ({ way, n: i + 1 })))(
    'stays below it: $way',
    async ({ way, n }, ctx) => {
      ctx.skip(skipReason !== undefined, skipReason);
      const next = await publish(n);
      const pair = { source: held.config, target: next.stored.digest };
      const options = await prepareWay(fleet, machine, way, pair);
      const { json } = await machine.snaphost('update', ...options);
      const method = way === 'whole' ? 'full' : 'delta';
      expect(json).toMatchObject({ method, fallbackReason: null });
      expect(json.peakRssBytes).toBeLessThan(LIMIT);
      held = next;
    },
  );
});
