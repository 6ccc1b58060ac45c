import { randomBytes } from 'node:crypto';
import { existsSync, statfsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, type TestContext } from 'vitest';
import { Downloads } from '../../../host-client/update/downloads.ts';
import { digestHex, sha256 } from '../../../shared/digest.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import type { BlobReadOptions, ContentReader } from '../../../shared/oci/content.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const CONTENT = randomBytes(500_000);
const BLOB = { digest: sha256(CONTENT), size: CONTENT.length };
const NAME = digestHex(BLOB.digest);
const SHM = '/dev/shm';
const TMPFS_MAGIC = 0x01021994;
const hasTmpfs = existsSync(SHM) && statfsSync(SHM).type === TMPFS_MAGIC;
const pause = async () => undefined;

/** A registry whose line breaks once after so many bytes; it notes where it was asked to go on. */
function source(breaksAfter = Number.POSITIVE_INFINITY) {
  const offsets: number[] = [];
  async function* openBlob(_: unknown, { offset = 0 }: BlobReadOptions = {}) {
    offsets.push(offset);
    for (let at = offset; at < CONTENT.length; at += 50_000) {
      if (at - offset >= breaksAfter) throw new SnapgateError('CANCELLED', 'cancelled');
      yield CONTENT.subarray(at, at + 50_000);
    }
  }
  return { reader: { name: 'test', openBlob } as unknown as ContentReader, offsets };
}

async function folders(ctx: TestContext) {
  const disk = await temporaryFolder(ctx);
  const memory = await mkdtemp(join(SHM, 'snapgate-test-'));
  ctx.onTestFinished(() => rm(memory, { recursive: true, force: true }));
  const names = async () => ({ disk: await readdir(disk), memory: await readdir(memory) });
  return { disk, memory, names };
}

describe('downloads in memory', () => {
  beforeEach((ctx) => ctx.skip(!hasTmpfs, `no file system in memory at ${SHM}`));

  it('are used and removed without having been on the disk', async (ctx) => {
    const { disk, memory, names } = await folders(ctx);
    const downloads = new Downloads(disk, memory);
    await downloads.fetch(source().reader, BLOB);
    expect(await names()).toEqual({ disk: [], memory: [NAME] });
    expect(await downloads.missingBytes([BLOB])).toBe(0);
    expect(Buffer.concat(await Array.fromAsync(downloads.read(BLOB)))).toEqual(CONTENT);
    await downloads.drop(BLOB);
    expect(await names()).toEqual({ disk: [], memory: [] });
  });

  it('serve the next run, and are checked by it', async (ctx) => {
    const { disk, memory, names } = await folders(ctx);
    await new Downloads(disk, memory).fetch(source().reader, BLOB);
    const { reader, offsets } = source();
    await new Downloads(disk, memory).fetch(reader, BLOB);
    expect(offsets).toEqual([]);
    await writeFile(join(memory, NAME), randomBytes(BLOB.size));
    const next = new Downloads(disk, memory);
    await next.fetch(reader, BLOB);
    expect(offsets).toEqual([0]);
    expect(await readFile(next.path(BLOB))).toEqual(CONTENT);
    expect(await next.remove(() => true)).toBe(BLOB.size);
    expect(await names()).toEqual({ disk: [], memory: [] });
  });

  it('go to the disk once they take long', async (ctx) => {
    const { disk, memory, names } = await folders(ctx);
    let time = 0;
    const downloads = new Downloads(disk, memory, () => time);
    const { reader, offsets } = source();
    await downloads.fetch(reader, BLOB, {
      onBytes: () => {
        time += 9_000;
      },
    });
    expect(offsets).toEqual([0]);
    expect(await names()).toEqual({ disk: [NAME], memory: [] });
    expect(await readFile(downloads.path(BLOB))).toEqual(CONTENT);
  });

  it('go to the disk when they are interrupted, and on from there', async (ctx) => {
    const { disk, memory, names } = await folders(ctx);
    const failure = new Downloads(disk, memory).fetch(source(200_000).reader, BLOB, { pause });
    await expect(failure).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await names()).toEqual({ disk: [`${NAME}.part`], memory: [] });
    const { reader, offsets } = source();
    await new Downloads(disk, memory).fetch(reader, BLOB);
    expect(offsets).toEqual([200_000]);
    expect(await names()).toEqual({ disk: [NAME], memory: [] });
  });

  it('go on on the disk when the run was killed', async (ctx) => {
    const { disk, memory, names } = await folders(ctx);
    await writeFile(join(memory, `${NAME}.part`), CONTENT.subarray(0, 123_456));
    const downloads = new Downloads(disk, memory);
    expect(await downloads.missingBytes([BLOB])).toBe(BLOB.size - 123_456);
    const { reader, offsets } = source();
    await downloads.fetch(reader, BLOB);
    expect(offsets).toEqual([123_456]);
    expect(await names()).toEqual({ disk: [NAME], memory: [] });
  });

  it('go to the disk when they are kept for later', async (ctx) => {
    const { disk, memory, names } = await folders(ctx);
    const downloads = new Downloads(disk, memory);
    await downloads.fetch(source().reader, BLOB);
    await downloads.keep();
    expect(await names()).toEqual({ disk: [NAME], memory: [] });
    expect(await readFile(downloads.path(BLOB))).toEqual(CONTENT);
  });

  it('are on the disk at once where the folder is not in memory', async (ctx) => {
    const { disk, names } = await folders(ctx);
    const other = join(await temporaryFolder(ctx), 'downloads');
    await mkdir(other);
    await new Downloads(disk, other).fetch(source().reader, BLOB);
    expect((await names()).disk).toEqual([NAME]);
  });
});
