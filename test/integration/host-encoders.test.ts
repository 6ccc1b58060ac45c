import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FORMAT_ANNOTATION } from '../../shared/delta/annotations.ts';
import { type Manifest, parseManifest } from '../../shared/oci/manifest.ts';
import { type Fleet, fleetSkipReason, startFleet, TestMachine } from '../support/fleet.ts';
import { generatedContent } from '../support/generated.ts';
import { findProgram } from '../support/has-program.ts';
import { putTinyImage, type TinyImage } from '../support/tiny-image.ts';

const zstd = findProgram('zstd');
const skipReason = fleetSkipReason() ?? (zstd === undefined ? 'zstd is not installed' : undefined);
const base = { 'usr/lib/base.so': randomBytes(200_000) };

let fleet: Fleet;
let machines: TestMachine[];
let target: TinyImage;

/** A file that the system's zstd packed, as it packs an initrd. */
function packedBySystem(content: Buffer): Buffer {
  const args = ['-q', '-c', '-9', '-T1'];
  return execFileSync(zstd ?? '', args, { input: content, maxBuffer: 1 << 28 });
}

const content = generatedContent(3_000_000, 5);
const changed = Buffer.from(content).fill('changed', 1_000_000, 1_000_070);

/** A machine whose `zstd` says that it is the version that it is, and packs at another level. */
async function differentMachine(): Promise<TestMachine> {
  const machine = await TestMachine.create(fleet.gateway.url, fleet.policy);
  const folder = join(machine.root, 'programs');
  await mkdir(folder);
  const program = join(folder, 'zstd');
  const script = `#!/bin/sh\nfor word; do shift; [ "$word" = -9 ] && word=-3; set -- "$@" "$word"; done\nexec ${zstd} "$@"\n`;
  await writeFile(program, script);
  await chmod(program, 0o755);
  machine.env = { PATH: `${folder}${delimiter}${process.env.PATH}` };
  return machine;
}

beforeAll(async () => {
  if (skipReason !== undefined) return;
  fleet = await startFleet();
  machines = [await differentMachine(), await differentMachine()];
  const files = [base, { 'boot/initrd': packedBySystem(content) }];
  await putTinyImage(fleet.repository, files, { tag: 'stable' });
  for (const machine of machines) {
    expect(await machine.snaphost('update')).toMatchObject({ status: 0 });
  }
  const next = [base, { 'boot/initrd': packedBySystem(changed) }];
  target = await putTinyImage(fleet.repository, next, { tag: 'stable' });
});

afterAll(async () => {
  if (skipReason !== undefined) return;
  for (const machine of machines) await machine.remove();
  await fleet.stop();
});

async function deltas(): Promise<Manifest[]> {
  const listed = await fleet.repository.listReferrers(target.stored.digest);
  const manifests = listed.map(({ digest }) => fleet.repository.getManifest(digest));
  return (await Promise.all(manifests)).map((stored) => parseManifest(stored.bytes));
}

const formatsOf = (manifests: readonly Manifest[]) =>
  manifests.map((manifest) => manifest.annotations?.[FORMAT_ANNOTATION]).filter(Boolean);

describe('a machine whose encoder makes other bytes than its version promises', () => {
  it('reports it and updates by a plain delta', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const [machine] = machines as [TestMachine];
    const { json, status } = await machine.snaphost('update');
    expect(json).toMatchObject({
      ...{ to: target.stored.digest, method: 'delta' },
      fallbackReason: expect.stringContaining('ENCODER_MISMATCH'),
    });
    expect(status).toBe(0);
    const formats = formatsOf(await deltas());
    expect(formats).toContainEqual(expect.stringMatching(/^snapgate;recompress=/));
    expect(formats).toContainEqual('snapgate');
    expect(fleet.gateway.log).toContainEqual(
      expect.objectContaining({ message: 'encoders reported', reporters: 1 }),
    );
    const images = machine.podman('images', '--no-trunc', '--quiet');
    expect(images).toContain(target.config);
  });

  it('does not rely on it again, and another machine still may', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const [first, second] = machines as [TestMachine, TestMachine];
    // One report changes nothing for others of the class: this one finds out for itself.
    const other = await second.snaphost('check');
    const ways = other.json.ways as { method: string; state: string; bytes: number }[];
    expect(ways[0]).toMatchObject({ method: 'delta', state: 'ready' });
    const next = [base, { 'boot/initrd': packedBySystem(content), 'etc/new': randomBytes(2000) }];
    target = await putTinyImage(fleet.repository, next, { tag: 'stable' });
    const { json } = await first.snaphost('update');
    expect(json).toMatchObject({ method: 'delta', fallbackReason: null });
    expect(formatsOf(await deltas())).toEqual(['snapgate']);
  });
});
