import { randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Downloads } from '../../../host-client/update/downloads.ts';
import { digestHex, sha256 } from '../../../shared/digest.ts';
import { type ErrorCode, SnapgateError } from '../../../shared/errors.ts';
import type { BlobReadOptions, ContentReader } from '../../../shared/oci/content.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const CONTENT = randomBytes(500_000);
const BLOB = { digest: sha256(CONTENT), size: CONTENT.length };
const pause = async () => undefined;

/** What a registry does with one request: the bytes it sends, and the error that it ends with. */
type Answer = {
  readonly send?: Uint8Array;
  readonly fail?: ErrorCode;
  readonly retryAfter?: number;
};

/** A registry that gives its answers one after the other, and then the rest of the blob. */
function source(...answers: Answer[]): { reader: ContentReader; offsets: number[] } {
  const offsets: number[] = [];
  async function* openBlob(_: unknown, { offset = 0 }: BlobReadOptions = {}) {
    offsets.push(offset);
    const { send = CONTENT.subarray(offset), fail, ...details } = answers.shift() ?? {};
    for (let at = 0; at < send.length; at += 50_000) yield send.subarray(at, at + 50_000);
    if (fail !== undefined) throw new SnapgateError(fail, 'as asked', details);
  }
  return { reader: { name: 'test', openBlob } as unknown as ContentReader, offsets };
}

describe('downloads', () => {
  it('fetches once what is not there', async (ctx) => {
    const downloads = new Downloads(await temporaryFolder(ctx));
    const { reader, offsets } = source();
    const pieces: number[] = [];
    await downloads.fetch(reader, BLOB, { onBytes: (bytes) => pieces.push(bytes) });
    await downloads.fetch(reader, BLOB);
    expect(await readFile(downloads.path(BLOB))).toEqual(CONTENT);
    expect(offsets).toEqual([0]);
    expect(pieces.reduce((sum, bytes) => sum + bytes, 0)).toBe(BLOB.size);
  });

  it('goes on at the last byte when the line breaks', async (ctx) => {
    const downloads = new Downloads(await temporaryFolder(ctx));
    const { reader, offsets } = source(
      { send: CONTENT.subarray(0, 100_000), fail: 'UPSTREAM_UNREACHABLE' },
      { send: new Uint8Array(), fail: 'UPSTREAM_TIMEOUT' },
      { send: CONTENT.subarray(100_000, 300_000), fail: 'SIZE_INVALID' },
    );
    await downloads.fetch(reader, BLOB, { pause });
    expect(offsets).toEqual([0, 100_000, 100_000, 300_000]);
    expect(await readFile(downloads.path(BLOB))).toEqual(CONTENT);
  });

  it('goes on where another process stopped', async (ctx) => {
    const folder = await temporaryFolder(ctx);
    const part = join(folder, `${digestHex(BLOB.digest)}.part`);
    await writeFile(part, CONTENT.subarray(0, 123_456));
    const downloads = new Downloads(folder);
    expect(await downloads.missingBytes([BLOB])).toBe(BLOB.size - 123_456);
    const { reader, offsets } = source();
    await downloads.fetch(reader, BLOB);
    expect(offsets).toEqual([123_456]);
    expect(await readdir(folder)).toEqual([digestHex(BLOB.digest)]);
  });

  it.for([
    ['damaged', Buffer.alloc(200_000)],
    ['too long', Buffer.alloc(600_000)],
  ] as const)('starts anew when what was left over is %s', async ([, leftover], ctx) => {
    const path = await temporaryFolder(ctx);
    await writeFile(join(path, `${digestHex(BLOB.digest)}.part`), leftover);
    const downloads = new Downloads(path);
    await downloads.fetch(source().reader, BLOB);
    expect(await readFile(downloads.path(BLOB))).toEqual(CONTENT);
  });

  it('checks what an earlier run left whole, and fetches it again when it is damaged', async (ctx) => {
    const folder = await temporaryFolder(ctx);
    const path = join(folder, digestHex(BLOB.digest));
    await writeFile(path, CONTENT);
    const { reader, offsets } = source();
    await new Downloads(folder).fetch(reader, BLOB);
    expect(offsets).toEqual([]);
    // As a crash may leave it.
    await writeFile(path, Buffer.alloc(BLOB.size));
    await new Downloads(folder).fetch(reader, BLOB);
    expect(offsets).toEqual([0]);
    expect(await readFile(path)).toEqual(CONTENT);
  });

  it('gives up a line that brings nothing, and keeps what came', async (ctx) => {
    const downloads = new Downloads(await temporaryFolder(ctx));
    const nothing = { send: new Uint8Array(), fail: 'UPSTREAM_UNREACHABLE' } as const;
    const some = { send: CONTENT.subarray(0, 100_000), fail: 'UPSTREAM_UNREACHABLE' } as const;
    const { reader } = source(some, nothing, nothing, nothing, nothing, nothing);
    const failure = downloads.fetch(reader, BLOB, { pause });
    await expect(failure).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
    expect(await downloads.missingBytes([BLOB])).toBe(BLOB.size - 100_000);
  });

  it.for([
    ['has another digest', { send: randomBytes(BLOB.size) }, 'DIGEST_INVALID'],
    ['is longer', { send: CONTENT.subarray(0, 100), fail: 'SIZE_INVALID' }, 'SIZE_INVALID'],
  ] as const)('deletes a blob that %s', async ([, lie, code], ctx) => {
    const path = await temporaryFolder(ctx);
    const again = { send: new Uint8Array(), fail: 'SIZE_INVALID' } as const;
    const failure = new Downloads(path).fetch(source(lie, again).reader, BLOB, { pause });
    await expect(failure).rejects.toMatchObject({ code });
    expect(await readdir(path)).toEqual([]);
  });

  it('waits longer each time, never the same, and as long as it is asked to', async (ctx) => {
    const downloads = new Downloads(await temporaryFolder(ctx));
    const busy = { send: new Uint8Array(), fail: 'TOOMANYREQUESTS' } as const;
    const { reader } = source(busy, busy, { ...busy, retryAfter: 200 }, busy);
    const waits: number[] = [];
    const noted = async (milliseconds: number) => void waits.push(milliseconds / 1000);
    await downloads.fetch(reader, BLOB, { pause: noted });
    const [first = 0, second = 0, third = 0, fourth = 0] = waits;
    expect([first >= 0.5, first <= 1, second >= 1, second <= 2]).toEqual(Array(4).fill(true));
    expect([third, fourth >= 4, fourth <= 8]).toEqual([200, true, true]);
  });

  it('leaves alone who asks for more than it waits', async (ctx) => {
    const downloads = new Downloads(await temporaryFolder(ctx));
    const busy = { send: new Uint8Array(), fail: 'UPSTREAM_FAILED', retryAfter: 301 } as const;
    const { reader, offsets } = source(busy);
    const failure = downloads.fetch(reader, BLOB, { pause });
    await expect(failure).rejects.toMatchObject({ code: 'UPSTREAM_FAILED', retryAfter: 301 });
    expect(offsets).toEqual([0]);
  });

  it('does not try again what the registry refuses', async (ctx) => {
    const downloads = new Downloads(await temporaryFolder(ctx));
    const { reader, offsets } = source({ send: new Uint8Array(), fail: 'BLOB_UNKNOWN' });
    const failure = downloads.fetch(reader, BLOB, { pause });
    await expect(failure).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(offsets).toHaveLength(1);
  });

  it('removes what is not wanted, and nothing that is not its own', async (ctx) => {
    const folder = await temporaryFolder(ctx);
    const other = sha256('other');
    await writeFile(join(folder, `${digestHex(other)}.part`), 'half');
    await writeFile(join(folder, 'notes.txt'), 'mine');
    const downloads = new Downloads(folder);
    await downloads.fetch(source().reader, BLOB);
    expect(await downloads.remove((digest) => digest !== BLOB.digest)).toBe(4);
    expect((await readdir(folder)).sort()).toEqual([digestHex(BLOB.digest), 'notes.txt'].sort());
  });
});
